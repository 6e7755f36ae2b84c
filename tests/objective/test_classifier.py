"""The cross-entropy over class centers: dense, in chunks, over devices and sampled, it is the one formula."""

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
from lrfr_jax.objective import distances, margins
from lrfr_jax.objective.classifier import Classifier

IDENTITIES, BATCH, DIM = 50, 16, 12
MARGINS = {
    "cosface": {"scale": 16.0, "margin": 0.4},
    "arcface": {"scale": 16.0, "margin": 0.5},
    "arcface_straight_through": {"scale": 16.0, "margin": 0.5},
    "softmax": {"scale": 16.0, "margin": 0},
}
RNG = jax.random.key(7)


@pytest.fixture
def given():
    """(features of two views, class centers, labels)."""
    keys = jax.random.split(jax.random.key(0), 3)
    features, centers = 5 * jax.random.normal(keys[0], (2, BATCH, DIM)), jax.random.normal(keys[1], (IDENTITIES, DIM))
    return features, centers, jax.random.randint(keys[2], (BATCH,), 0, IDENTITIES)


def layout(shards=1, chunks=1, sampled_share=1.0):
    return Classifier(IDENTITIES, shards, chunks, sampled_share)


def mean_loss(features, centers, labels, *, classifier, margin="cosface", rng=RNG):
    settings = MARGINS[margin]
    target_logit = functools.partial(margins.MARGINS[margin], **settings)
    rest = {"classifier": classifier, "scale": settings["scale"], "target_logit": target_logit}
    per_image, is_nearest = classifiers.cross_entropy(features, centers, labels, rng, **rest)
    return jnp.mean(per_image), (per_image, is_nearest)


# Under jit, as one program compiles sooner than its operations one by one.
value_and_gradients = jax.jit(
    jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True), static_argnames=("classifier", "margin")
)


@functools.partial(jax.jit, static_argnames="margin")
def dense(features, centers, labels, *, margin):
    """The definition, with all logits as one matrix."""
    settings = MARGINS[margin]

    def loss(features, centers):
        cosines = distances.unit_length(features.reshape(-1, DIM)) @ distances.unit_length(centers).T
        twice = jnp.tile(labels, 2)
        target = margins.MARGINS[margin](jnp.take_along_axis(cosines, twice[:, None], 1), **settings)
        at_label = jax.nn.one_hot(twice, len(centers), dtype=bool)
        per_image = margins.cross_entropy(jnp.where(at_label, target, settings["scale"] * cosines), twice)
        return jnp.mean(per_image), jnp.argmax(cosines, axis=-1) == twice

    (value, is_nearest), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(features, centers)
    return value, is_nearest.reshape(2, -1), gradients


@pytest.mark.parametrize(
    ("margin", "data", "model"),
    [(margin, None, 1) for margin in MARGINS]
    + [(margin, data, model) for margin in ("cosface", "arcface") for data, model in ((8, 1), (2, 4), (1, 8))],
)
@pytest.mark.parametrize("chunks", [1, 3])
def test_all_layouts_equal_the_definition(given, margin, data, model, chunks):
    """`data` None: on one device, without a mesh."""
    features, centers, labels = given
    expected, expected_nearest, (by_features, by_centers) = dense(features, centers, labels, margin=margin)
    classifier = layout(model, chunks)
    padded = classifiers.pad_class_centers(centers, classifier)
    assert padded.shape[0] % (model * chunks) == 0
    step = functools.partial(value_and_gradients, classifier=classifier, margin=margin)
    if data is None:
        (value, (_, nearest)), gradients = step(features, padded, labels)
    else:
        mesh = sharding.make_mesh(model)
        assert mesh.shape == {"data": data, "model": model}
        over_batch = NamedSharding(mesh, PartitionSpec(None, ("data", "model")))
        over_rows = NamedSharding(mesh, PartitionSpec("model"))
        placed = jax.device_put((features, padded, labels), (over_batch, over_rows, sharding.over_batch(mesh)))
        with jax.set_mesh(mesh):
            (value, (_, nearest)), gradients = step(*placed)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(nearest, expected_nearest)
    np.testing.assert_allclose(gradients[0], by_features, atol=1e-6)
    np.testing.assert_allclose(gradients[1][:IDENTITIES], by_centers, atol=1e-6)
    np.testing.assert_array_equal(gradients[1][IDENTITIES:], 0)


def compiled_text(model, chunks, sampled_share, *, identities=4096, batch=64):
    """The program of value and gradients on eight devices, as XLA partitioned it."""
    classifier = Classifier(identities, model, chunks, sampled_share)
    mesh = sharding.make_mesh(model)
    over_batch = NamedSharding(mesh, PartitionSpec(None, ("data", "model")))
    over_rows = NamedSharding(mesh, PartitionSpec("model"))
    arguments = (
        jax.ShapeDtypeStruct((2, batch, DIM), jnp.float32, sharding=over_batch),
        jax.ShapeDtypeStruct((classifier.rows, DIM), jnp.float32, sharding=over_rows),
        jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=sharding.over_batch(mesh)),
    )
    gradients = (over_batch, over_rows)
    step = functools.partial(value_and_gradients, classifier=classifier)
    replicated = sharding.replicated(mesh)
    with jax.set_mesh(mesh):
        lowered = jax.jit(step, out_shardings=((replicated, (replicated, replicated)), gradients)).lower(*arguments)
    return lowered.compile().as_text()


def collectives(text):
    """[(operation, elements)] of everything that travels between devices."""
    pattern = r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    found = []
    for shapes, operation in re.findall(pattern, text):
        for dims in re.findall(r"\w+\[([\d,]*)\]", shapes):
            found.append((operation, int(np.prod([int(size) for size in filter(None, dims.split(","))], dtype=int))))
    return found


@pytest.mark.parametrize(
    ("model", "chunks", "share"), [(8, 1, 1.0), (8, 4, 1.0), (2, 4, 1.0), (8, 1, 0.1), (8, 2, 0.1)]
)
def test_only_embeddings_travel_between_shards(model, chunks, share):
    """Neither logits (at least 64 x 4096 / 8 elements) nor centers (4096 x 12 / 8) leave their device."""
    found = collectives(compiled_text(model, chunks, share))
    embeddings = 2 * 64 * DIM
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


def test_a_sample_is_the_softmax_of_its_rows(given):
    """Value and gradient: those of a classifier that has the chosen rows alone."""
    features, centers, labels = given
    classifier = layout(sampled_share=0.6)
    chosen = classifiers._sampled_rows(RNG, labels, classifier)[0]
    new_labels = jnp.argmax(chosen[None] == labels[:, None], axis=1)
    (value, (_, nearest)), (by_features, by_centers) = value_and_gradients(
        features, centers, labels, classifier=classifier
    )
    expected, expected_nearest, expected_gradients = dense(features, centers[chosen], new_labels, margin="cosface")
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(nearest, expected_nearest)
    np.testing.assert_allclose(by_features, expected_gradients[0], atol=1e-6)
    np.testing.assert_allclose(by_centers[chosen], expected_gradients[1], atol=1e-6)
    unseen = np.setdiff1d(np.arange(IDENTITIES), chosen)
    assert len(unseen) == IDENTITIES - classifier.rows_taking_part(BATCH)
    np.testing.assert_array_equal(by_centers[unseen], 0)


@pytest.mark.parametrize(("shards", "chunks"), [(4, 1), (4, 2)])
def test_a_split_sample_is_the_softmax_of_its_rows(given, shards, chunks):
    features, centers, labels = given
    classifier = layout(shards, chunks, 0.4)
    padded = classifiers.pad_class_centers(centers, classifier)
    local = classifiers._sampled_rows(RNG, labels, classifier)
    chosen = (local + jnp.arange(shards)[:, None] * (classifier.rows // shards)).ravel()
    chosen = chosen[chosen < IDENTITIES]
    new_labels = jnp.argmax(chosen[None] == labels[:, None], axis=1)
    (value, _), (by_features, _) = value_and_gradients(features, padded, labels, classifier=classifier)
    expected, _, expected_gradients = dense(features, centers[chosen], new_labels, margin="cosface")
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(by_features, expected_gradients[0], atol=1e-6)


def test_lengths_do_not_matter(given):
    features, centers, labels = given
    expected = mean_loss(features, centers, labels, classifier=layout())[0]
    np.testing.assert_allclose(
        mean_loss(9 * features, 3 * centers, labels, classifier=layout())[0], expected, rtol=1e-5
    )


@pytest.mark.parametrize("chunks", [1, 5])
def test_gradients_are_finite_at_zero_and_at_the_centers(given, chunks):
    features, centers, labels = given
    own = jnp.stack([centers[labels], -centers[labels]])
    for x, w in ((0 * features, centers), (features, 0 * centers), (own, centers)):
        (value, _), gradients = value_and_gradients(x, w, labels, classifier=layout(chunks=chunks))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradients)))


def test_one_identity_has_no_loss(given):
    features, centers, _ = given
    one = Classifier(1, 1, 1, 1)
    (value, (_, nearest)), gradients = value_and_gradients(
        features, centers[:1], jnp.zeros(BATCH, jnp.int32), classifier=one
    )
    assert 0 <= value < 1e-6
    assert nearest.sum() > 0
    chex.assert_tree_all_finite(gradients)


def test_large_scales_keep_their_digits(given):
    """exp(64) of nearly equal logits, far from the highest possible one."""
    x = jnp.ones((1, 1, DIM))
    centers = jnp.stack([-jnp.ones(DIM), -jnp.ones(DIM).at[0].set(0.9)])
    settings = {"classifier": Classifier(2, 1, 1, 1), "scale": 64.0, "target_logit": lambda cosine: 64.0 * cosine}
    run = jax.jit(functools.partial(classifiers.cross_entropy, **settings))
    loss, _ = run(x, centers, jnp.zeros(1, jnp.int32), RNG)
    with jax.enable_x64(True):
        wide = distances.unit_length(jnp.asarray(centers, jnp.float64)) @ jnp.full(DIM, DIM**-0.5)
        expected = margins.cross_entropy(64 * wide[None], jnp.zeros(1, jnp.int32))
    np.testing.assert_allclose(loss[0], expected, rtol=1e-4)


def test_a_label_that_does_not_exist_is_nan(given):
    features, centers, _ = given
    labels = jnp.arange(BATCH).at[0].set(-1).at[1].set(IDENTITIES)
    _, (per_image, _) = mean_loss(features, centers, labels, classifier=layout())
    np.testing.assert_array_equal(np.isnan(per_image), [[True, True] + [False] * (BATCH - 2)] * 2)


@pytest.mark.parametrize("precision", [jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH])
def test_products_are_as_precise_as_asked(given, precision):
    run = functools.partial(mean_loss, classifier=dataclasses.replace(layout(), precision=precision))
    gradient = jax.grad(lambda *arguments: run(*arguments)[0], argnums=(0, 1))
    products = [e for e in jax.make_jaxpr(gradient)(*given).eqns if e.primitive.name == "dot_general"]
    assert len(products) == 3  # cosines, and the gradients of both
    assert {one for product in products for one in product.params["precision"]} == {precision}


def test_half_precision_features_are_judged_in_float32(given):
    features, centers, labels = given
    rounded = features.astype(jnp.bfloat16)
    run = functools.partial(mean_loss, classifier=layout())
    wide = run(rounded.astype(jnp.float32), centers, labels)
    chex.assert_trees_all_equal(run(rounded, centers, labels), wide)
    trace = jax.make_jaxpr(run)(rounded, centers, labels)
    (product,) = [equation for equation in trace.eqns if equation.primitive.name == "dot_general"]
    assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}  # no TF32, no bfloat16 passes


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
