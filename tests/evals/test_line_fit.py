"""The pairs that QMagFace's constants are fitted on, from sets of both kinds, and what the fit says of itself."""

import argparse
import dataclasses

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed, line_fit, scores
from tests.evals import made_up_sets

RATES = (0.2, 0.6)


def options(data_dir, name, **changes):
    asked = {"data_dir": str(data_dir), "fit_qmag": name, "fit_rates": RATES, "fit_axis": "raw", "fit_images": 100}
    return argparse.Namespace(**asked | changes)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made_up_sets.write(folder, "pairs", made_up_sets.verification())
    hard = made_up_sets.verification()
    wrong = dataclasses.replace(hard, is_same=np.arange(40) % 3 == 0)  # with which no threshold goes
    made_up_sets.write(folder, "hard", wrong)
    made_up_sets.write(folder, "gallery", made_up_sets.identification())
    return folder


def test_a_verification_set_gives_its_pairs(data_dir):
    held = line_fit.opened(options(data_dir, "pairs"))
    protocol = made_up_sets.verification()
    np.testing.assert_array_equal(held.pairs, protocol.pairs)
    np.testing.assert_array_equal(held.is_same, protocol.is_same)
    assert (held.about["set"], held.about["genuine_pairs"], held.about["impostor_pairs"]) == ("pairs", 20, 20)


def test_a_training_set_gives_drawn_pairs(generated_data):
    held = line_fit.opened(options(generated_data, "generated_train"))
    labels = np.array([held.source[place]["label"] for place in range(48)])
    same = labels[held.pairs[:, 0]] == labels[held.pairs[:, 1]]
    np.testing.assert_array_equal(same, held.is_same)
    assert held.about["genuine_pairs"] == 6 * 28  # all pairs of eight images each
    assert held.about["impostor_pairs"] == 2 * 6 * 28 * 5
    few = line_fit.opened(options(generated_data, "generated_train", fit_images=24))
    assert few.pairs.max() < 24


def test_the_line_is_that_of_the_features(data_dir):
    held = line_fit.opened(options(data_dir, "hard"))
    embedder = embed.make_embedder(made_up_sets.TinyBackbone(), sizes=(112,), rounding="uint8", mirror=False)
    found = line_fit.fit(held, embedder, made_up_sets.variables(), batch_size=8)
    wanted = {112: np.arange(40)}
    reading = {"wanted": wanted, "batch_size": 8, "num_threads": 1}
    features = embed.embed_records(embedder, made_up_sets.variables(), held.source, **reading)[112][:, 0]
    norms = np.linalg.norm(features, axis=1)
    cosines = np.sum(features[held.pairs[:, 0]] * features[held.pairs[:, 1]], axis=1) / norms[held.pairs].prod(axis=1)
    line = scores.fit_line(cosines, norms[held.pairs].min(axis=1), held.is_same, rates=RATES, axis="raw")
    assert (found["alpha"], found["beta"]) == pytest.approx(tuple(line), rel=1e-3)
    assert (found["axis"], found["rates"]) == ("raw", list(RATES))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("pairs", {"fit_rates": (1e-5, 1e-2)}, "--fit_qmag pairs: 20 genuine and 20 impostor pairs are too few"),
        ("pairs", {"fit_rates": (0.1,)}, "must be two numbers"),
        ("gallery", {}, "is a set of kind identification: name a verification or a training set"),
        ("nothing", {}, "no set named nothing"),
    ],
)
def test_what_cannot_be_fitted_is_told_before_a_model_is_loaded(data_dir, name, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        line_fit.opened(options(data_dir, name, **changes))


def test_nothing_is_opened_without_the_option(data_dir):
    assert line_fit.opened(options(data_dir, None)) is None
