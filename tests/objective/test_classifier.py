"""The loss over class centers: dense, in chunks, over devices and sampled, it is the one formula, for every head."""

import dataclasses
import functools
import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lrfr_jax.machines import sharding
from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective import distances
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS, cross_entropy, dense
from tests.objective.heads.toy import NUMBERS

IDENTITIES, BATCH, DIM = 50, 16, 12
RNG = jax.random.key(7)
# At a scale of 64 a softmax of 50 is saturated and tests little; three rivals test more than one.
CHANGES = {"scale": 16.0, "num_nearest": 3}
STREAMING = [name for name in HEADS if not name.endswith("face_released")]  # those need all cosines at once
# One for each way to add up, to normalize and to shift.
EACH_SUM = ("cosface", "linear_softmax", "curricularface", "rpcl_arcface", "uniface", "npt")
BIAS = {
    "none": {},
    "shared": {"class_bias": jnp.asarray(-3.0)},
    "per_identity": {"class_bias": jnp.linspace(-1, 1, IDENTITIES)},
}


@functools.cache
def head_named(name):
    return HEADS[name](**{field: CHANGES.get(field, value) for field, value in NUMBERS[name].items()})


@pytest.fixture
def given():
    """(features of two views, class centers, labels): some near their own center, of many lengths."""
    keys = jax.random.split(jax.random.key(0), 4)
    centers = jax.random.normal(keys[1], (IDENTITIES, DIM))
    labels = jax.random.randint(keys[2], (BATCH,), 0, IDENTITIES)
    nearness = jnp.linspace(0, 2, BATCH)[:, None]
    features = jax.random.normal(keys[0], (2, BATCH, DIM)) + (nearness * centers[labels])[None]
    return features * jnp.linspace(1, 20, 2 * BATCH).reshape(2, BATCH, 1), centers, labels


def layout(shards=1, chunks=1, sampled_share=1.0):
    return Classifier(IDENTITIES, shards, chunks, sampled_share)


def first_state(head, dtype=jnp.float32):
    return {name: jnp.asarray(value, dtype) for name, value in head.first_state.items()}


def params_of(centers, head, classifier=None):
    """Parameters of the classifier: with `classifier` in its rows."""
    bias = {key: value.astype(centers.dtype) for key, value in BIAS[head.bias].items()}
    if classifier is None:
        return {"class_centers": centers, **bias}
    more = classifier.rows - IDENTITIES
    bias = {key: jnp.pad(value, (0, more)) if value.ndim else value for key, value in bias.items()}
    return {"class_centers": classifiers.pad_class_centers(centers, classifier), **bias}


def mean_loss(features, params, labels, rng=RNG, *, classifier, head="cosface"):
    head = head_named(head) if isinstance(head, str) else head
    state = first_state(head, features.dtype)
    result = classifiers.classification(features, params, labels, rng, state, classifier=classifier, head=head)
    return jnp.mean(result[0]), result


# Under jit, as one program compiles sooner than its operations one by one.
value_and_gradients = jax.jit(
    jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True), static_argnames=("classifier", "head")
)


@functools.partial(jax.jit, static_argnames="head")
def dense_value_and_gradients(features, params, labels, *, head="cosface"):
    """The definition, with all cosines as one matrix: what `value_and_gradients` returns."""
    head = head_named(head)

    def loss(features, params):
        norms, centers = jnp.linalg.norm(features, axis=-1), params["class_centers"]
        products = jnp.einsum("vbd,cd->vbc", features, centers, precision="highest")
        if head.normalize == "rows":
            products = products / norms[..., None] / jnp.linalg.norm(centers, axis=-1)[None, None]
        draws = head.draw(jax.random.fold_in(RNG, classifiers.DRAW), (2 * BATCH,)) if head.draw else None
        draws = None if draws is None else draws.reshape(BATCH, 2).T
        state = first_state(head, features.dtype)
        losses, state = dense.classification(head, products, labels, norms, state, draws, params.get("class_bias"))
        logits = products + (params["class_bias"][None, None] if head.bias == "per_identity" else 0)
        return jnp.mean(losses), (losses, jnp.argmax(logits, axis=-1) == labels[None], state)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(features, params)


def on_mesh(model, features, params, labels):
    """(mesh of eight devices, the arrays as training lays them out on it)."""
    mesh = sharding.make_mesh(model)
    over_batch = NamedSharding(mesh, PartitionSpec(None, ("data", "model")))
    placed = jax.device_put((features, labels), (over_batch, sharding.over_batch(mesh)))
    return mesh, (placed[0], jax.device_put(params, sharding.of_state(mesh, params)), placed[1])


def assert_same(found, expected, *, tolerance):
    """Values, flags, states and gradients; rows that belong to nobody have no gradient."""
    ((value, (losses, nearest, state)), gradients), ((_, (e_losses, e_nearest, e_state)), e_gradients) = found, expected
    np.testing.assert_allclose(losses, e_losses, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(nearest, e_nearest)
    assert value == pytest.approx(float(jnp.mean(e_losses)), rel=tolerance)
    chex.assert_trees_all_close(state, e_state, rtol=tolerance)
    for name, gradient in gradients[1].items():
        if gradient.ndim:
            np.testing.assert_array_equal(gradient[IDENTITIES:], 0)
            gradients[1][name] = gradient[:IDENTITIES]
    chex.assert_trees_all_close(gradients, e_gradients, rtol=tolerance, atol=tolerance)


LAYOUTS = {"whole": (None, 1, 1), "chunks": (None, 1, 7), "mesh": (4, 4, 1), "mesh_and_chunks": (4, 4, 7)}


@pytest.mark.parametrize(
    ("name", "where"),
    [(name, "mesh_and_chunks") for name in STREAMING]
    + [(name, where) for name in EACH_SUM for where in ("whole", "chunks", "mesh")],
)
def test_all_layouts_equal_the_definition(given, name, where):
    """In float32, on one device or a mesh of 2 x 4."""
    model, shards, chunks = LAYOUTS[where]
    features, centers, labels = given
    head, classifier = head_named(name), layout(shards, chunks)
    expected = dense_value_and_gradients(features, params_of(centers, head), labels, head=name)
    step = functools.partial(value_and_gradients, classifier=classifier, head=name)
    arguments = features, params_of(centers, head, classifier), labels
    if model is None:
        found = step(*arguments)
    else:
        mesh, arguments = on_mesh(model, *arguments)
        assert mesh.shape == {"data": 2, "model": 4}
        with jax.set_mesh(mesh):
            found = step(*arguments)
    assert_same(found, expected, tolerance=1e-5)


@pytest.mark.parametrize("name", STREAMING)
def test_layouts_equal_the_definition_in_double(given, name):
    """Chunks and shards on one device; with 1e-10 no term is missing."""
    with jax.enable_x64(True):
        features, centers, labels = (np.asarray(x) for x in given)
        features, centers = jnp.asarray(features, jnp.float64), jnp.asarray(centers, jnp.float64)
        head, classifier = head_named(name), layout(2, 7)
        expected = dense_value_and_gradients(features, params_of(centers, head), labels, head=name)
        found = value_and_gradients(
            features, params_of(centers, head, classifier), labels, classifier=classifier, head=name
        )
        assert_same(found, expected, tolerance=1e-10)


@pytest.mark.parametrize("name", [name for name in HEADS if name not in STREAMING])
def test_a_head_that_needs_whole_rows(given, name):
    features, centers, labels = given
    expected = dense_value_and_gradients(features, {"class_centers": centers}, labels, head=name)
    found = value_and_gradients(features, {"class_centers": centers}, labels, classifier=layout(), head=name)
    assert_same(found, expected, tolerance=1e-5)
    for refused in ({"chunks": 2}, {"shards": 2}, {"sampled_share": 0.5}):
        (field, value), padded = next(iter(refused.items())), layout(**refused)
        with pytest.raises(ValueError, match=f"needs the cosines to all identities at once: .*{field}={value}"):
            mean_loss(features, params_of(centers, head_named(name), padded), labels, classifier=padded, head=name)


def test_more_nearest_than_others_are_refused(given):
    features, centers, labels = given
    head = HEADS["npt"](radius=1, delta=0.5, num_nearest=20)
    params = {"class_centers": centers}
    assert np.isfinite(mean_loss(features, params, labels, classifier=layout(), head=head)[0])
    sample = layout(sampled_share=0.4)
    with pytest.raises(ValueError, match=r"num_nearest=20 \(k\) exceeds the 19 other identities that take part"):
        mean_loss(features, params, labels, classifier=sample, head=head)


@pytest.mark.parametrize("groups", [1, 3])
def test_centers_normalized_by_groups(given, groups):
    """As those of likelihood heads: the features come prepared, and one group is the whole row."""
    features, centers, labels = given
    head = dataclasses.replace(head_named("softmax"), normalize=groups)
    grouped = centers.reshape(IDENTITIES, groups, -1)
    unit = (grouped / jnp.linalg.norm(grouped, axis=-1, keepdims=True)).reshape(centers.shape)
    logits = head.scale * jnp.einsum("vbd,cd->vbc", features, unit, precision="highest")
    for classifier in (layout(), layout(2, 3)):
        params = {"class_centers": classifiers.pad_class_centers(centers, classifier)}
        _, (losses, *_) = mean_loss(features, params, labels, classifier=classifier, head=head)
        expected = cross_entropy(logits, jnp.broadcast_to(labels, logits.shape[:2]))
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-3)


def test_the_bias_of_a_head():
    classifier = Classifier(100, 4, 3, 0.5)
    assert classifiers.init_bias(head_named("cosface"), classifier) == {}
    assert classifiers.init_bias(head_named("linear_softmax"), classifier)["class_bias"].shape == (classifier.rows,)
    shared = classifiers.init_bias(head_named("uniface"), classifier)["class_bias"]
    np.testing.assert_allclose(shared, -np.log(10 * 50), rtol=1e-6)  # of 100 identities half take part


def compiled_text(model, chunks, sampled_share, *, identities=4096, batch=64, head="cosface"):
    """The program of value and gradients on eight devices, as XLA partitioned it."""
    classifier = Classifier(identities, model, chunks, sampled_share)
    mesh = sharding.make_mesh(model)
    over_batch = NamedSharding(mesh, PartitionSpec(None, ("data", "model")))
    over_rows = NamedSharding(mesh, PartitionSpec("model"))
    bias = jax.eval_shape(lambda: classifiers.init_bias(head_named(head), classifier))
    places = sharding.of_state(mesh, bias)
    laid_out = {key: jax.ShapeDtypeStruct(bias[key].shape, bias[key].dtype, sharding=places[key]) for key in bias}
    arguments = (
        jax.ShapeDtypeStruct((2, batch, DIM), jnp.float32, sharding=over_batch),
        {"class_centers": jax.ShapeDtypeStruct((classifier.rows, DIM), jnp.float32, sharding=over_rows), **laid_out},
        jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=sharding.over_batch(mesh)),
    )
    replicated = sharding.replicated(mesh)
    gradients = (over_batch, {"class_centers": over_rows} | places)
    step = functools.partial(value_and_gradients, classifier=classifier, head=head)
    with jax.set_mesh(mesh):
        return jax.jit(step, out_shardings=(replicated, gradients)).lower(*arguments).compile().as_text()


def collectives(text):
    """[(operation, elements)] of everything that travels between devices."""
    pattern = r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    found = []
    for shapes, operation in re.findall(pattern, text):
        for dims in re.findall(r"\w+\[([\d,]*)\]", shapes):
            found.append((operation, int(np.prod([int(size) for size in filter(None, dims.split(","))], dtype=int))))
    return found


@pytest.mark.parametrize(
    ("model", "chunks", "share", "name"),
    [(model, chunks, share, "cosface") for model, chunks, share in ((8, 4, 1.0), (2, 4, 1.0), (8, 1, 0.1), (8, 2, 0.1))]
    + [(8, 1, 1.0, name) for name in EACH_SUM],
)
def test_only_embeddings_travel_between_shards(model, chunks, share, name):
    """Neither logits (at least 64 x 4096 / 8 elements) nor all centers (4096 x 12 / 8) leave their device."""
    found = collectives(compiled_text(model, chunks, share, head=name))
    embeddings = 2 * 64 * DIM * max(1, head_named(name).num_nearest)  # or the nearest centers of each
    assert found
    for operation, elements in found:
        # With copies of a shard on several devices its gradient is summed over them.
        is_gradient = model < 8 and operation in ("all-reduce", "reduce-scatter") and elements <= 4096 / model * DIM
        assert elements <= embeddings or is_gradient, (operation, elements)


def test_chunks_keep_the_logits_from_existing_whole():
    largest = {chunks: buffers(compiled_text(8, chunks, 1.0)) for chunks in (1, 4)}
    logits = 2 * 64 * 4096 // 8
    assert logits in largest[1]
    assert logits not in largest[4]
    assert logits // 4 in largest[4]


def buffers(text):
    """Element counts of all arrays in a program."""
    return {int(np.prod([int(size) for size in dims.split(",")])) for dims in re.findall(r"f32\[([\d,]+)\]", text)}


@pytest.mark.parametrize(("shards", "chunks"), [(1, 1), (4, 1), (4, 2)])
def test_a_sample_holds_the_labels_and_no_row_twice(given, shards, chunks):
    labels = given[2]
    classifier = layout(shards, chunks, 0.4)
    rows = classifier.rows // shards
    samples = []
    for seed in range(30):
        chosen = classifiers._sampled_rows(jax.random.key(seed), labels, classifier)
        assert chosen.shape == (shards, classifier.rows_taking_part(BATCH))
        ids = set((np.asarray(chosen) + rows * np.arange(shards)[:, None]).ravel().tolist())
        assert len(ids) == chosen.size
        assert ids >= set(labels.tolist())
        samples.append(ids & set(range(IDENTITIES)))
    counts = np.bincount(list(itertools.chain(*samples)), minlength=IDENTITIES)
    assert counts.min() > 0  # every identity takes part sooner or later
    if shards == 1:
        # The others are drawn evenly.
        others = np.delete(counts, np.unique(labels))
        expected = 30 * (classifier.rows_taking_part(BATCH) - len(np.unique(labels))) / len(others)
        assert abs(others.mean() - expected) < 1e-9
        assert others.max() < 3 * expected


@pytest.mark.parametrize("name", STREAMING)
def test_a_sample_is_the_loss_of_its_rows(given, name):
    """Value and gradient: those of a classifier that has the chosen rows alone."""
    features, centers, labels = given
    classifier = layout(sampled_share=0.3)
    chosen = classifiers._sampled_rows(RNG, labels, classifier)[0]
    new_labels = jnp.argmax(chosen[None] == labels[:, None], axis=1)
    head = head_named(name)
    params = params_of(centers, head)
    of_sample = {key: value[chosen] if value.ndim else value for key, value in params.items()}
    (value, (_, nearest, _)), gradients = value_and_gradients(
        features, params, labels, classifier=classifier, head=name
    )
    (expected, (_, expected_nearest, _)), expected_gradients = dense_value_and_gradients(
        features, of_sample, new_labels, head=name
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(nearest, expected_nearest)
    np.testing.assert_allclose(gradients[0], expected_gradients[0], atol=1e-5)
    found = {key: value[chosen] if value.ndim else value for key, value in gradients[1].items()}
    chex.assert_trees_all_close(found, expected_gradients[1], atol=1e-5)
    unseen = np.setdiff1d(np.arange(IDENTITIES), chosen)
    assert len(unseen) == IDENTITIES - classifier.rows_taking_part(BATCH)
    np.testing.assert_array_equal(gradients[1]["class_centers"][unseen], 0)


@pytest.mark.parametrize(("shards", "chunks"), [(4, 1), (4, 2)])
def test_a_split_sample_is_the_loss_of_its_rows(given, shards, chunks):
    features, centers, labels = given
    classifier = layout(shards, chunks, 0.4)
    padded = classifiers.pad_class_centers(centers, classifier)
    local = classifiers._sampled_rows(RNG, labels, classifier)
    chosen = (local + jnp.arange(shards)[:, None] * (classifier.rows // shards)).ravel()
    chosen = chosen[chosen < IDENTITIES]
    new_labels = jnp.argmax(chosen[None] == labels[:, None], axis=1)
    (value, _), gradients = value_and_gradients(features, {"class_centers": padded}, labels, classifier=classifier)
    of_sample = {"class_centers": centers[chosen]}
    (expected, _), expected_gradients = dense_value_and_gradients(features, of_sample, new_labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], expected_gradients[0], atol=1e-5)


def test_lengths_do_not_matter(given):
    features, centers, labels = given
    expected = mean_loss(features, {"class_centers": centers}, labels, classifier=layout())[0]
    found = mean_loss(9 * features, {"class_centers": 3 * centers}, labels, classifier=layout())[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", [*EACH_SUM, "arcface"])
def test_gradients_are_finite_at_zero_and_at_the_centers(given, name):
    features, centers, labels = given
    own = jnp.stack([centers[labels], -centers[labels]])
    for x, w in ((0 * features, centers), (features, 0 * centers), (own, centers)):
        classifier = layout(chunks=5)
        params = params_of(w, head_named(name), classifier)
        found = value_and_gradients(x, params, labels, classifier=classifier, head=name)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found[0][0], found[1])))


@pytest.mark.parametrize("name", ["cosface", "curricularface", "rpcl_cosface"])
def test_one_identity_has_no_loss(given, name):
    features, centers, _ = given
    params, labels = {"class_centers": centers[:1]}, jnp.zeros(BATCH, jnp.int32)
    (value, (_, nearest, _)), gradients = value_and_gradients(
        features, params, labels, classifier=Classifier(1, 1, 1, 1), head=name
    )
    assert 0 <= value < 1e-6
    assert nearest.sum() > 0
    chex.assert_tree_all_finite(gradients)


def test_large_scales_keep_their_digits():
    """exp(64) of nearly equal logits, far from the highest possible one."""
    x = jnp.ones((1, 1, DIM))
    centers = jnp.stack([-jnp.ones(DIM), -jnp.ones(DIM).at[0].set(0.9)])
    settings = {"classifier": Classifier(2, 1, 1, 1), "head": HEADS["softmax"](scale=64.0)}
    run = jax.jit(functools.partial(classifiers.classification, **settings))
    loss, *_ = run(x, {"class_centers": centers}, jnp.zeros(1, jnp.int32), RNG, {})
    with jax.enable_x64(True):
        wide = distances.unit_length(jnp.asarray(centers, jnp.float64)) @ jnp.full(DIM, DIM**-0.5)
        expected = cross_entropy(64 * wide[None], jnp.zeros(1, jnp.int32))
    np.testing.assert_allclose(loss[0], expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["cosface", "npt"])
def test_a_label_that_does_not_exist_is_nan(given, name):
    features, centers, _ = given
    labels = jnp.arange(BATCH).at[0].set(-1).at[1].set(IDENTITIES)
    _, (per_image, *_) = mean_loss(features, {"class_centers": centers}, labels, classifier=layout(), head=name)
    np.testing.assert_array_equal(np.isnan(per_image), [[True, True] + [False] * (BATCH - 2)] * 2)


@pytest.mark.parametrize("precision", [jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH])
def test_products_are_as_precise_as_asked(given, precision):
    features, centers, labels = given
    run = functools.partial(mean_loss, classifier=dataclasses.replace(layout(), precision=precision))
    gradient = jax.grad(lambda *arguments: run(*arguments)[0], argnums=(0, 1))
    trace = str(jax.make_jaxpr(gradient)(features, {"class_centers": centers}, labels))
    products = re.findall(r"dot_general\[.*?precision=\((.*?)\)", trace, re.DOTALL)
    name = f"Precision.{precision.name}"
    assert products == [f"{name}, {name}"] * 3  # cosines, and the gradients of both


def test_half_precision_features_are_judged_in_float32(given):
    features, centers, labels = given
    rounded, params = features.astype(jnp.bfloat16), {"class_centers": centers}
    run = functools.partial(mean_loss, classifier=layout())
    wide = run(rounded.astype(jnp.float32), params, labels)
    chex.assert_trees_all_equal(run(rounded, params, labels)[1][0], wide[1][0])
    assert wide[1][0].dtype == jnp.float32


def test_centers_start_xavier_uniform():
    classifier = Classifier(300, shards=7, chunks=1, sampled_share=1)
    centers = classifiers.init_class_centers(jax.random.key(0), classifier, 100)
    bound = np.sqrt(6 / 400)
    assert centers.shape == (301, 100)
    assert jnp.abs(centers).max() <= bound
    np.testing.assert_allclose(centers[:300].std(), bound / np.sqrt(3), rtol=0.02)
    np.testing.assert_array_equal(centers[300:], 0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [((0, 1, 1, 1), "num_identities=0"), ((5, 0, 1, 1), "shards=0"), ((5, 1, 0, 1), "chunks=0")]
    + [((5, 1, 1, share), f"sampled_share={share}") for share in (0, 1.5)],
)
def test_values_out_of_range(values, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Classifier(*values)
