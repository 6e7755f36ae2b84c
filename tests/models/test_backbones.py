"""What every backbone promises, on narrow nets."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.models import create_backbone, layers, mobilefacenet
from lrfr_jax.models.iresnet import IBasicBlock
from lrfr_jax.models.resnet import BasicBlock
from lrfr_jax.sizing import operations

RGB = {"order": "rgb", "mean": 127.5, "scale": 127.5, "columns": 112}
SMALL = {"width": 0.125, "embedding_size": 16, "dropout": 0.4, "dtype": "float32", "input": RGB}
INPUT = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)


def shapes_of(net):
    return jax.eval_shape(lambda images: net.init(jax.random.key(0), images, train=False), INPUT)


def count_parameters(name, **changes):
    shapes = shapes_of(create_backbone(name, **(SMALL | changes)))["params"]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


@pytest.fixture(scope="module", params=["resnet18", "iresnet18"])
def net_and_inputs(request):
    """A net of two blocks with made-up weights (positive where they multiply channels), and four images."""
    net = create_backbone(request.param, **SMALL).clone(stage_sizes=(1, 1))
    rng = np.random.default_rng(0)

    def fill(shape):
        scale = np.sqrt(2 / np.prod(shape.shape[:-1]))
        values = rng.uniform(0.5, 1, shape.shape) if len(shape.shape) == 1 else rng.normal(0, scale, shape.shape)
        return jnp.asarray(values, shape.dtype)

    return net, jax.tree.map(fill, shapes_of(net)), jnp.asarray(rng.uniform(-1, 1, (4, 112, 112, 3)), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def forward(net, variables, images):
    return net.apply(variables, images, train=False)


@functools.partial(jax.jit, static_argnums=0)
def forward_training(net, variables, images, seed):
    rngs = {"dropout": jax.random.key(seed)}
    return net.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])


def test_remat_changes_neither_names_nor_numbers(net_and_inputs):
    """Features, statistics and gradients, with BatchNorm and dropout of training."""
    net, variables, images = net_and_inputs

    def gradient(net):
        def loss(params):
            features, updated = net.apply(
                variables | {"params": params},
                images,
                train=True,
                rngs={"dropout": jax.random.key(1)},
                mutable=["batch_stats"],
            )
            return jnp.sum(features * jnp.arange(features.size).reshape(features.shape)), (features, updated)

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    wanted = gradient(net)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted[0]))
    for remat in ("elementwise", "blocks"):
        found = gradient(net.clone(remat=remat))
        chex.assert_trees_all_close(found[0], wanted[0], atol=1e-5 * largest)
        chex.assert_trees_all_close(found[1], wanted[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "iresnet18", "mobilefacenet"])
def test_remat_is_known_to_every_backbone(name, monkeypatch):
    """The gradient computes convolutions again with 'blocks' alone, and the parameters keep their names."""
    monkeypatch.setattr(mobilefacenet, "STAGES", mobilefacenet.STAGES[1::2])  # all of a kind once
    sizes = {} if name == "mobilefacenet" else {"stage_sizes": (1, 1)}
    nets = (create_backbone(name, **SMALL, remat=remat).clone(**sizes) for remat in layers.REMATS)
    kept, elementwise, again = nets
    assert shapes_of(kept) == shapes_of(elementwise) == shapes_of(again)
    variables, images = shapes_of(kept), jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.float32)

    def convolutions(net):
        def loss(variables, images):
            return jnp.sum(net.apply(variables, images, train=False))

        return str(jax.make_jaxpr(jax.grad(loss))(variables, images)).count("conv_general_dilated[")

    assert convolutions(kept) == convolutions(elementwise) < convolutions(again)


def count_of_iresnet(stage_sizes):
    """By hand: 3x3 and 1x1 convolutions, two numbers a channel for each BatchNorm and one for each PReLU."""
    total, before = 9 * 3 * 64 + 3 * 64, 64
    for channels, size in zip(layers.STAGE_CHANNELS, stage_sizes, strict=True):
        first = 9 * before * channels + 9 * channels**2 + 2 * before + 5 * channels + before * channels + 2 * channels
        total += first + (size - 1) * (18 * channels**2 + 7 * channels)
        before = channels
    return total + 2 * 512 + (7 * 7 * 512 + 1) * 512 + 512


COUNTS = {
    # the released networks' own counts; 101 has 17 blocks more in the third stage than 50
    "resnet18": 24_016_448,
    "resnet34": 34_124_608,
    "resnet50": 74_886_208,
    "resnet101": 74_886_208 + 17 * (2 * 1024 * 256 + 9 * 256**2 + 2 * (1024 + 2 * 256)),
    "iresnet18": count_of_iresnet((2, 2, 2, 2)),
    "iresnet34": count_of_iresnet((3, 4, 6, 3)),
    # arcface_torch's count less the last BatchNorm's scale, which is fixed and no parameter here
    "iresnet50": 43_590_848 - 512,
    "iresnet100": count_of_iresnet((3, 13, 30, 3)),
    # two 1x1 convolutions to a sixteenth of the channels and back, and a 3x3 of two channels, in every block
    "cbam_iresnet18": count_of_iresnet((2, 2, 2, 2)) + 2 * (512 + 2048 + 8192 + 32768 + 4 * 18),
    # the same without the 3x3
    "se_iresnet50": 43_590_848 - 512 + 3 * 512 + 4 * 2048 + 14 * 8192 + 3 * 32768,
    "cbam_iresnet50": 43_590_848 - 512 + 3 * 512 + 4 * 2048 + 14 * 8192 + 3 * 32768 + 24 * 18,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    assert count_parameters(name, width=1.0, embedding_size=512) == COUNTS[name]


def test_the_count_by_hand_is_arcface_torchs():
    assert count_of_iresnet((3, 4, 14, 3)) == COUNTS["iresnet50"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "iresnet18"])
def test_width_narrows(name):
    assert count_parameters(name, width=0.5) < 0.35 * count_parameters(name, width=1.0)


def test_scaled_channels():
    assert [layers.scaled_channels(64, width) for width in (1.0, 0.5, 1.26, 0.01)] == [64, 32, 81, layers.MIN_CHANNELS]


def test_outputs_and_parameters_are_float32(net_and_inputs):
    net, variables, images = net_and_inputs
    half = net.clone(dtype="bfloat16")
    feature, coarse = forward(net, variables, images), forward(half, variables, images)
    trained = jax.eval_shape(functools.partial(forward_training, half), variables, images, 0)
    assert feature.shape == coarse.shape == trained[0].shape == (4, 16)
    leaves = jax.tree.leaves((feature, coarse, trained, shapes_of(half)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    difference = jnp.linalg.norm(coarse - feature) / jnp.linalg.norm(feature)
    assert 1e-4 < difference < 0.1  # the body really computes in fewer bits, and not in nonsense


def test_body_in_bfloat16_neck_in_float32(net_and_inputs):
    net, variables, images = net_and_inputs
    half = net.clone(dtype="bfloat16")
    capture = functools.partial(half.apply, train=False, capture_intermediates=True, mutable=["intermediates"])
    _, seen = jax.eval_shape(capture, variables, images)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(seen["intermediates"]["neck"])} == {"float32"}
    trace = jax.make_jaxpr(lambda v, x: half.apply(v, x, train=False))(variables, images)
    # A convolution's gradient is written by hand, so that it stands in a call of its own.
    calls = [body for equation in trace.eqns for body in operations.bodies(equation)]
    convolutions = [one for body in calls for one in body.eqns if one.primitive.name == "conv_general_dilated"]
    assert {equation.outvars[0].aval.dtype.name for equation in convolutions} == {"bfloat16"}
    (linear,) = [equation for equation in trace.eqns if equation.primitive.name == "dot_general"]
    assert linear.outvars[0].aval.dtype == jnp.float32
    assert set(linear.params["precision"]) == {jax.lax.Precision.HIGH}


def test_linear_layer_behind_a_float32_body_multiplies_in_float32(net_and_inputs):
    net, variables, images = net_and_inputs
    trace = jax.make_jaxpr(lambda v, x: net.apply(v, x, train=False))(variables, images)
    (linear,) = [equation for equation in trace.eqns if equation.primitive.name == "dot_general"]
    assert set(linear.params["precision"]) == {jax.lax.Precision.HIGHEST}  # no TF32, no bfloat16 passes


def test_evaluation_is_per_image(net_and_inputs):
    net, variables, images = net_and_inputs
    features = forward(net, variables, images)
    np.testing.assert_allclose(forward(net, variables, images[::-1]), features[::-1], rtol=1e-4)
    np.testing.assert_allclose(forward(net, variables, images[:1]), features[:1], rtol=1e-4)


def test_training_standardizes_and_updates_statistics(net_and_inputs):
    net, variables, images = net_and_inputs
    features, updated = forward_training(net, variables, images, 0)
    neck = variables["params"]["neck"]["bn2"]
    np.testing.assert_allclose(features.mean(axis=0), neck["bias"], atol=1e-5)
    np.testing.assert_allclose(features.std(axis=0), neck.get("scale", np.ones(16)), rtol=1e-2)
    moved = jax.tree.map(lambda new, old: bool(jnp.any(new != old)), updated["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def test_running_statistics_move_by_a_tenth():
    norm = layers.batch_norm(True, dtype="float32", name="bn")
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (64, 5))
    _, variables = norm.init_with_output(jax.random.key(0), x)
    _, updated = norm.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * x.var(axis=0), rtol=1e-5)


def test_dropout_only_in_training(net_and_inputs):
    net, variables, images = net_and_inputs
    assert jnp.any(forward_training(net, variables, images, 0)[0] != forward_training(net, variables, images, 1)[0])
    dry = net.clone(dropout=0.0)
    np.testing.assert_array_equal(forward(net, variables, images), forward(dry, variables, images))
    np.testing.assert_array_equal(*(forward_training(dry, variables, images, seed)[0] for seed in (0, 1)))


@pytest.mark.parametrize("use_scale", [True, False])
def test_running_batch_norm_equals_flax_in_value_and_gradient(use_scale):
    rng = np.random.default_rng(0)
    x, weights = jnp.asarray(rng.normal(2, 3, (2, 4, 5, 6, 3)), jnp.float32)
    variables = {
        "params": {"scale": jnp.array([0.5, 2.0, -1.0]), "bias": jnp.array([3.0, -1.0, 0.5])},
        "batch_stats": {"mean": jnp.array([2.0, 1.0, -2.0]), "var": jnp.array([9.0, 0.25, 4.0])},
    }
    if not use_scale:
        del variables["params"]["scale"]
    ours = layers.batch_norm(False, dtype="float32", name="bn", use_scale=use_scale)
    library = layers.nn.BatchNorm(True, epsilon=layers.BATCH_NORM_EPSILON, use_scale=use_scale)

    def results(norm):
        value, back = jax.vjp(lambda params, x: norm.apply(variables | {"params": params}, x), variables["params"], x)
        return value, back(weights)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4)
    jax.tree.map(close, results(ours), results(library))
    low = layers.batch_norm(False, dtype="bfloat16", name="bn", use_scale=use_scale).apply(variables, x)
    assert low.dtype == jnp.bfloat16
    # Rounded once, at the end: half a unit in the last of 8 bits.
    np.testing.assert_allclose(low, ours.apply(variables, x), rtol=2**-8)


def test_prelu_has_the_derived_gradient():
    rng = np.random.default_rng(0)
    x, weights = jnp.asarray(rng.normal(size=(2, 2, 3, 4, 5)), jnp.float32)
    x = x.at[0, 0, 0].set(0.0)  # where the slope counts, as in the derived gradient of `where`
    slope = jnp.asarray(rng.normal(size=5), jnp.float32)

    def plain(x, slope):
        return jnp.where(x > 0, x, slope * x)

    with jax.numpy_rank_promotion("allow"):
        value, back = jax.vjp(plain, x, slope)
        np.testing.assert_array_equal(layers.prelu(x, slope), value)
        for found, expected in zip(jax.vjp(layers.prelu, x, slope)[1](weights), back(weights), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_max_pool_equals_flax_in_value_and_gradient():
    x = jax.random.normal(jax.random.key(0), (2, 9, 12, 3))
    weights = jax.random.normal(jax.random.key(1), (2, 5, 6, 3))

    def pooled(pool):
        value, back = jax.vjp(lambda x: pool(jax.nn.relu(x)), x)
        return value, back(weights)[0]

    value, gradient = pooled(functools.partial(layers.MaxPoolOfRelu().apply, {}))
    library = pooled(lambda x: layers.nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))))
    np.testing.assert_array_equal(value, library[0])
    np.testing.assert_allclose(gradient, library[1], atol=1e-6)


@pytest.mark.parametrize(("block", "deviation"), [(BasicBlock, np.sqrt(2 / (9 * 128))), (IBasicBlock, 0.1)])
def test_convolutions_start_with_the_published_spread(block, deviation):
    x = jnp.zeros((1, 4, 4, 32))
    kernel = block(128, 1, "float32").init(jax.random.key(0), x, train=False)["params"]["conv1"]["kernel"]
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet9"}, "resnet9.*resnet18.*iresnet100"),
        ({"dtype": "float64"}, "float64.*float32, bfloat16"),
        ({"width": 0.0}, "width=0.0"),
        ({"embedding_size": 0}, "embedding_size=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"remat": "all"}, "unknown remat 'all': choose one of none, elementwise, blocks"),
        ({"input": {"order": "rgb"}}, "model.input=.* must have the keys order, mean, scale, columns and size"),
        ({"input": RGB | {"order": "gbr"}}, "model.input=.*: order must be one of rgb, bgr"),
        ({"input": RGB | {"scale": 0}}, "model.input=.*scale above 0"),
        ({"input": RGB | {"columns": 113}}, "model.input=.*columns in 1..112"),
        ({"input": RGB | {"size": 3}}, "model.input.size=3 must be a side from 4 to 112 pixels"),
        ({"input": RGB | {"size": 16.0}}, "model.input.size=16.0 must be a side"),
        (
            {"input": RGB | {"size": 32, "columns": 96}},
            "size=32 shrinks .*columns=96 takes a part .*: set one of them to 112",
        ),
    ],
)
def test_bad_arguments_have_a_sentence(changes, words):
    arguments = {"backbone": "resnet18"} | SMALL | changes
    with pytest.raises(UserError, match=words):
        create_backbone(arguments.pop("backbone"), **arguments)
