"""What can be read by name: taps, parts of them and of each other, and the logits that the classifier's head has."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from lrfr_jax.machines import sharding
from lrfr_jax.models import layers
from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS, cross_entropy, dense
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.parts import PARTS, Part, check_reads

RANDOM = np.random.default_rng(0)
FEATURES = {
    ("lr", "feature"): jnp.asarray(RANDOM.normal(size=(8, 6)), jnp.float32),
    ("lr", "stage1"): jnp.asarray(RANDOM.normal(size=(8, 3, 3, 4)), jnp.float32),
}
LABELS = {"lr": jnp.asarray([0, 1, 2, 1, 0, 4, 3, 2])}
SOFTMAXES = ("softmax", "linear_softmax", "cosface", "arcface", "magface", "mag_cosface")


def shapes(tap):
    return jax.ShapeDtypeStruct(FEATURES["lr", tap].shape, jnp.float32)


@pytest.fixture
def named():
    """(names with two parts, one on the other, and a hint; their parameters)."""
    parts = {
        "first": Part(PARTS["perceptron"]((5, 7)), "feature"),
        "second": Part(PARTS["perceptron"]((3,)), "first"),
        "map": Part(PARTS["hint"]((2,)), "stage1"),
    }
    classifier, head = Classifier(5, 1, 1, 1), HEADS["cosface"](scale=8.0, margin=0.2)
    first = parts["first"].init(jax.random.key(0), shapes("feature"))
    params = {
        "parts": {
            "first": first,
            "second": parts["second"].init(jax.random.key(1), jax.ShapeDtypeStruct((8, 7), jnp.float32)),
            "map": parts["map"].init(jax.random.key(2), shapes("stage1")),
        },
        "classifier": {"class_centers": jax.random.normal(jax.random.key(3), (5, 3))},
    }
    return Names(parts, classifier, head, classified="second"), params


def test_the_way_of_a_name_to_its_tap_and_what_it_needs(named):
    names, params = named
    sources = {"feature": "feature", "stage2": "stage2", "first": "feature", "second": "feature", "map": "stage1"}
    assert {tap: names.source(tap) for tap in sources} == sources
    assert names.source("logits") == "feature"
    assert names.used_params("feature", params) == {}
    assert names.used_params("map", params).keys() == {"parts"}
    assert names.used_params("map", params)["parts"].keys() == {"map"}
    assert names.used_params("second", params)["parts"].keys() == {"first", "second"}
    used = names.used_params("logits", params)
    assert (used.keys(), used["parts"].keys()) == ({"classifier", "parts"}, {"first", "second"})


def linear(x, params):
    return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def test_parts_of_parts_are_their_formulas(named):
    names, params = named
    first, second = params["parts"]["first"], params["parts"]["second"]
    x = np.asarray(FEATURES["lr", "feature"])
    of_first = linear(np.maximum(linear(x, first["linear1"]), 0), first["linear2"])
    expected = {"feature": x, "first": of_first, "second": linear(of_first, second["linear1"])}
    for tap, value in expected.items():
        found = names.value("lr", tap, FEATURES, names.used_params(tap, params), LABELS)
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_part_of_a_part(named):
    names, params = named

    def total(parts):
        return jnp.sum(names.value("lr", "second", FEATURES, {"parts": parts}, LABELS))

    found = jax.grad(total)({name: params["parts"][name] for name in ("first", "second")})
    of_first = names.value("lr", "first", FEATURES, params, LABELS)
    np.testing.assert_allclose(found["second"]["linear1"]["bias"], [8.0] * 3)
    np.testing.assert_allclose(
        found["second"]["linear1"]["kernel"], np.repeat(np.sum(of_first, axis=0)[:, None], 3, axis=1), rtol=1e-5
    )
    expected = 8 * np.sum(params["parts"]["second"]["linear1"]["kernel"], axis=1)
    np.testing.assert_allclose(found["first"]["linear2"]["bias"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", SOFTMAXES)
def test_logits_are_those_whose_cross_entropy_the_head_is(name):
    head, classifier = HEADS[name](**common.HEADS[name]), Classifier(5, 1, 1, 1)
    params = {"class_centers": jax.random.normal(jax.random.key(1), (5, 6))}
    bias = classifiers.init_bias(head, classifier)
    params |= {key: value + jnp.arange(5.0) for key, value in bias.items()}
    features, labels = FEATURES["lr", "feature"], LABELS["lr"]
    logits = classifiers.margined_logits(features, params, labels, classifier=classifier, head=head)
    norms = jnp.linalg.norm(features, axis=1)
    unit = [x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (features, params["class_centers"])]
    x, centers = unit if head.normalize == "rows" else (features, params["class_centers"])
    losses, _ = dense.classification(head, x @ centers.T, labels, norms, {}, None, params.get("class_bias"))
    found = cross_entropy(logits, labels) + (0 if head.norm_term is None else head.norm_term(norms))
    np.testing.assert_allclose(found, losses, rtol=1e-4, atol=1e-4)


def test_logits_leave_out_the_rows_of_no_identity(named):
    names, params = named
    more = {"class_centers": jnp.pad(params["classifier"]["class_centers"], ((0, 3), (0, 0)))}
    found = [
        names.value("lr", "logits", FEATURES, params | {"classifier": one}, LABELS)
        for one in (params["classifier"], more)
    ]
    assert found[0].shape == (8, 5)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["npt", "uniface", "adaface", "curricularface", "elastic_arcface", "rpcl_cosface"])
def test_heads_without_logits_of_their_own_say_which_have(name):
    head = HEADS[name](**common.HEADS[name])
    with pytest.raises(ValueError, match="has no logits for a term to compare: take softmax, cosface"):
        classifiers.margined_logits(
            FEATURES["lr", "feature"],
            {"class_centers": jnp.ones((5, 6))},
            LABELS["lr"],
            classifier=Classifier(5, 1, 1, 1),
            head=head,
        )


@pytest.mark.parametrize("layout", [(2, 1, 1.0), (1, 2, 1.0), (1, 1, 0.5)])
def test_centers_that_are_split_have_no_logits(named, layout):
    names, _ = named
    with pytest.raises(ValueError, match=r"logits of all identities need classifier.shards=\d, chunks=\d and sampled"):
        classifiers.margined_logits(
            FEATURES["lr", "feature"],
            {"class_centers": jnp.ones((6, 6))},
            LABELS["lr"],
            classifier=Classifier(5, *layout),
            head=names.head,
        )


def test_a_hint_is_a_convolution_normalized_by_the_batch(named):
    names, params = named
    found = names.value("lr", "map", FEATURES, params, LABELS)
    maps = np.einsum("bhwc,cd->bhwd", FEATURES["lr", "stage1"], params["parts"]["map"]["conv"]["kernel"][0, 0])
    expected = (maps - maps.mean((0, 1, 2))) / np.sqrt(maps.var((0, 1, 2)) + layers.BATCH_NORM_EPSILON)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_hint_of_a_split_batch_is_that_of_the_whole(named):
    names, params = named

    def total(parts, maps):
        found = names.value("lr", "map", {("lr", "stage1"): maps}, {"parts": parts}, LABELS)
        return jnp.sum(found**3), found

    gradient = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    maps, parts = FEATURES["lr", "stage1"], {"map": params["parts"]["map"]}
    whole = gradient(parts, jax.device_put(maps, jax.devices()[0]))
    mesh = sharding.make_mesh(class_shards=1)
    with jax.set_mesh(mesh):
        split = jax.device_put(maps, sharding.over_batch(mesh))
        assert len(split.addressable_shards) == 8
        found = gradient(jax.device_put(parts, sharding.replicated(mesh)), split)
    chex.assert_trees_all_close(jax.tree.map(np.asarray, found), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "read", "sentence"),
    [
        (
            "hint",
            jax.ShapeDtypeStruct((8, 6), jnp.float32),
            r"parts.mine reads maps, and tap has the shape \[6\]: name",
        ),
        ("perceptron", shapes("stage1"), r"parts.mine reads features, and tap has the shape \[3, 3, 4\]: name another"),
        ("hint", (shapes("stage1"), shapes("stage1")), r"parts.mine reads maps, and tap has 2 maps: name another tap"),
    ],
)
def test_parts_say_what_they_cannot_read(kind, read, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_reads("mine", Part(PARTS[kind]((2,)), "tap"), read)
