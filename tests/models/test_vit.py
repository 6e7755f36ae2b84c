"""The transformers: sizes, what zeros leave of them, taps, remat, bad widths; KP-RPE's buckets and offsets."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.models import create_backbone, kprpe, taps, transformer

RAW = {"order": "rgb", "mean": 0.0, "scale": 1.0, "columns": 112}
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (3, 112, 112, 3)), jnp.float32)
NAMES = ("vit_p8s8", "vit_p12s8", "vit_kprpe_small")


def made(name, **changes):
    plain = {"width": 1.0, "embedding_size": 512, "dropout": 0.0, "dtype": "float32", "input": RAW}
    return create_backbone(name, **plain | changes)


def small(name, *, depth=4, **changes):
    return made(name, **{"width": 0.125, "embedding_size": 64} | changes).clone(depth=depth)


def shapes_of(net):
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    return jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)


@functools.lru_cache
def variables_of(net):
    """Near the first ones, but with no zeros."""
    draw = np.random.default_rng(1)

    def leaf(path, shape):
        center = 1.0 if path[-1].key in ("scale", "var") else 0.0
        return jnp.asarray(center + 0.1 * np.tanh(draw.normal(size=shape.shape)), jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes_of(net))


@functools.partial(jax.jit, static_argnums=0)
def features_of(net, variables, images, keypoints=None):
    how = {} if keypoints is None else {"keypoints": keypoints}
    return net.apply(variables, images, train=False, **how)


COUNTS = {"vit_p8s8": 63_218_176, "vit_p12s8": 63_341_056}
# Of a KP-RPE by hand: patches, positions; a block's norms, attention, MLP, tables; norm; neck.
BLOCK = 4 * 512 + 512 * 1536 + 513 * 512
for name, depth, heads, hidden in (("vit_kprpe_small", 12, 8, 2560), ("vit_kprpe_base", 24, 16, 1536)):
    block = BLOCK + 513 * hidden + (hidden + 1) * 512 + 11 * 49 * heads
    COUNTS[name] = 193 * 512 + 196 * 512 + depth * block + 1024 + 196 * 512**2 + 512**2 + 4 * 512


@pytest.mark.parametrize("name", COUNTS)
def test_sizes(name):
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes_of(made(name))["params"])) == COUNTS[name]


def test_a_face_transformer_has_no_statistics():
    assert set(shapes_of(small("vit_p8s8"))) == {"params"}
    assert set(shapes_of(small("vit_kprpe_small"))["batch_stats"]) == {"neck"}


def test_without_attention_and_mlp_the_first_token_is_left():
    net = small("vit_p12s8")
    variables = variables_of(net)

    def silenced(path, leaf):
        return leaf * 0 if path[-2].key in ("qkv", "out", "mlp2") else leaf

    params = jax.tree_util.tree_map_with_path(silenced, variables["params"])
    token = np.asarray(params["tokens"]["first"] + params["tokens"]["position"][:, :1])[0, 0].astype(np.float64)
    centered = (token - token.mean()) / np.sqrt(token.var() + 1e-5)
    expected = centered * np.asarray(params["norm"]["scale"]) + np.asarray(params["norm"]["bias"])
    np.testing.assert_allclose(features_of(net, {"params": params}, IMAGES), np.tile(expected, (3, 1)), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_taps_are_maps_and_asking_for_them_changes_nothing(name):
    net = small(name)
    names = ("stage1", "stage2", "stage3", "stage4", taps.FEATURE)
    assert taps.names_of(net) == names
    found, _ = jax.jit(lambda v, x: taps.apply(net, v, x, taps=names, train=False))(variables_of(net), IMAGES)
    assert {found[stage].shape for stage in names[:4]} == {(3, 14, 14, 64)}
    plain = features_of(net, variables_of(net), IMAGES)
    np.testing.assert_allclose(found[taps.FEATURE], plain, rtol=1e-4, atol=1e-5)


def test_remat_changes_neither_names_nor_numbers(monkeypatch):
    """With the same dropout and stochastic depth, of one block alone."""
    monkeypatch.setattr(transformer, "STAGES", 1)
    one = functools.partial(small, "vit_kprpe_small", depth=1)

    def gradient(net):
        variables = variables_of(one())

        def loss(params):
            how = {"rngs": {"dropout": jax.random.key(1)}, "mutable": ["batch_stats"]}
            features, _ = net.apply(variables | {"params": params}, IMAGES, train=True, **how)
            return jnp.sum(features * jnp.arange(features.size).reshape(features.shape))

        return jax.jit(jax.grad(loss))(variables["params"])

    wanted = gradient(one(dropout=0.1))
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for remat in ("elementwise", "blocks"):
        chex.assert_trees_all_close(gradient(one(dropout=0.1, remat=remat)), wanted, atol=1e-5 * largest)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near_float32(name):
    net = small(name)
    wanted = features_of(net, variables_of(net), IMAGES)
    found = features_of(small(name, dtype="bfloat16"), variables_of(net), IMAGES)
    assert found.dtype == jnp.float32
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)


def test_blocks_are_left_out_for_whole_images():
    """With a share near 1 of the last block, the tokens of most images leave it as they came."""
    net = small("vit_kprpe_small").clone(drop_path=0.999)
    variables = variables_of(net)
    how = {"taps": ("stage3", "stage4"), "train": True, "mutable": ("batch_stats",)}
    found, _ = jax.jit(lambda: taps.apply(net, variables, IMAGES, rngs={"dropout": jax.random.key(0)}, **how))()
    np.testing.assert_array_equal(found["stage4"], found["stage3"])


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("vit_p8s8", {"width": 0.2}, "width=0.2 makes tokens of 102.4 numbers.*multiple of 0.125"),
        ("vit_p8s8", {"width": 0.05}, "heads of 64"),
        ("vit_kprpe_base", {"width": 0.1}, "heads of 32"),
        ("vit_p12s8", {"embedding_size": 128}, "embedding_size=128 of a Face Transformer.*set it to 512"),
        ("vit_p12s8", {"input": RAW | {"columns": 96}}, "columns=96 of a transformer must be 112"),
        ("vit_kprpe_small", {"input": RAW | {"columns": 96}}, "columns=96 of a transformer must be 112"),
        ("vit_p8s8", {"input": RAW | {"size": 56}}, "size=56 of a transformer must be 112"),
    ],
)
def test_what_it_cannot_be_is_one_sentence(name, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        made(name, **changes)


def test_buckets_are_the_published_ones():
    ids = kprpe.buckets(14)

    def bucket(rows, columns):
        first, second = (max(0, rows), max(0, columns)), (max(0, -rows), max(0, -columns))
        return ids[first[0] * 14 + first[1], second[0] * 14 + second[1]]

    assert [bucket(0, 0), bucket(1, -2), bucket(13, -13), bucket(-3, 4)] == [24, 29, 42, 13]
    assert ids.min() == 0
    assert ids.max() == 48


def test_offsets_go_from_keypoints_to_patches():
    keypoints = jnp.array([[[0.25, 0.75], [0.5, 0.5], [0, 0], [1, 1], [0.1, 0.2]]])
    found = kprpe.offsets(keypoints, 2)[0]
    np.testing.assert_allclose(found[0], [0, -0.5, -0.25, -0.25, 0.25, 0.25, -0.75, -0.75, 0.15, 0.05], atol=1e-6)
    np.testing.assert_allclose(found[1, :2], [0.5, -0.5], atol=1e-6)


def test_the_bias_is_looked_up_by_head_and_bucket():
    draw = np.random.default_rng(2)
    keypoints = draw.uniform(size=(2, 5, 2)).astype(np.float32)
    kernel, shift = draw.normal(size=(10, 98)), draw.normal(size=98)
    params = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(shift, jnp.float32)}
    found = kprpe.KeypointBias(heads=2, side=14).apply({"params": params}, jnp.asarray(keypoints))
    table = np.asarray(kprpe.offsets(jnp.asarray(keypoints), 14)) @ kernel + shift
    ids = kprpe.buckets(14)
    for image, head, query, key in ((0, 0, 0, 195), (1, 1, 30, 45), (1, 0, 195, 7)):
        expected = table[image, query, 49 * head + ids[query, key]]
        np.testing.assert_allclose(found[image, head, query, key], expected, rtol=1e-5)


def test_keypoints_count_once_the_tables_are_learned():
    """At the start they do not; None are the template's."""
    net = small("vit_kprpe_small")

    def times(factor):
        def scaled(path, leaf):
            return leaf * factor if "bias" in [part.key for part in path[:-1]] else leaf

        return {**variables_of(net), "params": jax.tree_util.tree_map_with_path(scaled, variables_of(net)["params"])}

    variables = times(30)
    moved = jnp.asarray(kprpe.template() + np.array([0.1, -0.2], np.float32)).repeat(3, axis=0)
    template = jnp.asarray(kprpe.template()).repeat(3, axis=0)
    plain = features_of(net, variables, IMAGES)
    np.testing.assert_allclose(features_of(net, variables, IMAGES, template), plain, rtol=1e-4, atol=1e-5)
    assert np.abs(features_of(net, variables, IMAGES, moved) - plain).max() > 1e-3
    fresh = times(0)
    of_fresh = features_of(net, fresh, IMAGES)
    np.testing.assert_allclose(features_of(net, fresh, IMAGES, moved), of_fresh, rtol=1e-5, atol=1e-6)
    first = kprpe.KeypointBias(heads=2, side=14).init(jax.random.key(0), None)
    assert not any(leaf.any() for leaf in jax.tree.leaves(first))
