"""Two models of one gallery: who reads what, and that each number is that of the vectors which it should be of."""

import dataclasses

import jax
import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import calibration, embed, evaluation, protocols, report, two_models
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from lrfr_jax.evals.fusion import sum_flips
from lrfr_jax.evals.reading import Reading
from tests.evals import made_up_sets
from tests.evals.made_up_sets import TinyBackbone, variables

SIZES = (112, 80, 14, 9, 7)
FROM = 56
HOW = {"rounding": "uint8", "batch_size": 16, "num_threads": 2}


def shifted(seed=0):
    """Weights like those of `made_up_sets.variables`, but others."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * draw.normal(size=leaf.shape).astype(np.float32), dict(variables()))


WEIGHTS = {"teacher": variables(), "student": shifted()}


@pytest.fixture(scope="module")
def program():
    return embed.make_embedder(TinyBackbone(), sizes=SIZES, rounding="uint8")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pairs = made_up_sets.verification(sizes={"low": np.tile([[112, 9]], (40, 1))})
    made_up_sets.write(folder, "pairs", pairs)
    made_up_sets.write(folder, "cams", made_up_sets.identification(), arguments={"kind": "gallery"})
    made_up_sets.write(folder, "far", made_up_sets.identification(), arguments={"kind": "scface", "partial": True})
    twice = dataclasses.replace(made_up_sets.identification(), probes=np.arange(20))
    made_up_sets.write(folder, "twice", twice, arguments={"kind": "gallery"})
    made_up_sets.write(folder, "native", made_up_sets.verification(), arguments={"kind": "survface"})
    made_up_sets.write(folder, "videos", made_up_sets.templates(), arguments={"kind": "ijb"})
    return folder


@pytest.fixture(scope="module")
def run(data_dir, program):
    """Evaluates one set by one model, or by two."""

    def run(name, settings, who, from_size=None, caches=(None, None)):
        planned, beside = evaluation.plan(data_dir, {name: settings}), {}
        if from_size:
            planned = two_models.with_gallery(planned, weights="t" * 64, from_size=from_size)
            beside["gallery"] = embed.Gallery(program, WEIGHTS["teacher"], from_size)
            beside["gallery_cache"] = caches[1]
        results = evaluation.run(planned, program, WEIGHTS[who], cache=caches[0], **HOW, **beside)
        return results[name]

    return run


@pytest.fixture(scope="module")
def vectors(data_dir, program):
    """Unit vectors of all 40 images, which all sets share, by one model at one size."""
    source = evaluation.plan(data_dir, {"pairs": {}})["pairs"].test_set.source

    def vectors(who, size):
        wanted = {size: np.arange(40)}
        how = {"batch_size": 16, "num_threads": 2}
        return sum_flips(embed.embed_records(program, WEIGHTS[who], source, wanted=wanted, **how)[size])

    return vectors


def cosines(result):
    return {(one.mode, one.resolution): one.cosines for one in result.outcome.comparisons}


def test_each_image_of_a_pair_is_read_by_its_size(run, vectors):
    settings = {"resolutions": (80, 14), "size_lists": ("low",)}
    two = run("pairs", settings, "student", FROM)
    teacher, student = (cosines(run("pairs", settings, who)) for who in WEIGHTS)
    found = cosines(two)
    for key in (("hr_hr", 112), ("hr_lr", 80), ("lr_lr", 80)):
        np.testing.assert_array_equal(found[key], teacher[key])  # to the last bit
    np.testing.assert_array_equal(found["lr_lr", 14], student["lr_lr", 14])
    first, second = made_up_sets.verification().pairs.T
    for key, size in ((("hr_lr", 14), 14), (("sizes_low", 112), 9)):
        expected = (vectors("teacher", 112)[first] * vectors("student", size)[second]).sum(axis=1)
        np.testing.assert_allclose(found[key], expected, atol=1e-6)
        for alone in (teacher, student):
            assert np.abs(found[key] - alone[key]).max() > 1e-2
    named = report.report_of({"pairs": two}, step=0, checkpoint="")["sets"]["pairs"]["protocol"]
    assert named == f"insightface, gallery={'t' * 16} from {FROM} px"
    assert protocols.reading_of(two.evaluation.rules) == Reading("sum", gallery=f"{'t' * 16} from {FROM} px")


def test_the_size_from_which_on_faces_are_the_others(run):
    teacher, student = (cosines(run("pairs", {"resolutions": (14,)}, who)) for who in WEIGHTS)
    for size, expected in ((14, teacher), (113, student)):
        found = cosines(run("pairs", {"resolutions": (14,)}, "student", size))
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key])


def test_means_of_folds_are_of_the_model_that_reads_the_size(run):
    settings = {"resolutions": (14,), "centering": "per_resolution"}
    found = cosines(run("pairs", settings, "student", FROM))
    for who, key in (("teacher", ("hr_hr", 112)), ("student", ("lr_lr", 14))):
        np.testing.assert_array_equal(found[key], cosines(run("pairs", settings, who))[key])


@pytest.mark.parametrize(
    ("name", "who", "size"),
    [("cams", "teacher", 112), ("cams", "student", 7), ("far", "student", 112), ("far", "student", 7)],
)
def test_a_gallery_is_the_teachers_and_probes_are_read_by_their_size(run, vectors, name, who, size):
    """Those of SCface are small as they are stored."""
    stored = made_up_sets.identification()
    result = run(name, {"resolutions": (7,), "fusion": "sum", "split": "all"}, "student", FROM)
    probes, gallery = vectors(who, size)[stored.probes], vectors("teacher", 112)[stored.gallery]
    hits = stored.gallery_labels[(probes @ gallery.T).argmax(axis=1)] == stored.probe_labels
    found = {(one.group, one.resolution): one.value for one in result.outcome}
    assert [found[group, size] for group in ("even", "odd")] == [
        pytest.approx(hits[stored.probe_groups == place].mean()) for place in (0, 1)
    ]
    wanted = [{r: records.tolist() for r, records in one.items()} for one in result.evaluation.wanted_by_reader]
    own = {7: stored.probes.tolist()} | ({112: stored.probes.tolist()} if name == "far" else {})
    assert wanted == [own, {112: stored.gallery.tolist() if name == "far" else list(range(40))}]


def test_both_models_rows_of_one_size_come_together(data_dir, run, vectors, monkeypatch):
    held = {}
    monkeypatch.setattr(evaluation, "_score", lambda one, features: held.update(features) or [])
    run("far", {"fusion": "sum", "split": "all"}, "student", FROM)
    stored = made_up_sets.identification()
    for who, rows in (("teacher", stored.gallery), ("student", stored.probes)):
        np.testing.assert_allclose(sum_flips(held[112])[rows], vectors(who, 112)[rows], atol=1e-6)


def test_pairs_that_are_small_as_they_are_stored_are_the_students(run):
    settings = {"protocol": "survface_verification"}
    two = run("native", settings, "student", FROM)
    np.testing.assert_array_equal(cosines(two)["hr_hr", 112], cosines(run("native", settings, "student"))["hr_hr", 112])
    assert two.evaluation.rules.gallery == f"{'t' * 16} from 113 px"


def test_features_are_kept_by_their_model(run, tmp_path, monkeypatch):
    caches = EmbeddingCache(tmp_path, "s" * 64), EmbeddingCache(tmp_path, "t" * 64)
    settings = {"resolutions": (14,)}
    fresh = run("cams", settings, "student", FROM, caches)
    files = {(path.parts[-3], path.name) for path in tmp_path.rglob("*.npz")}
    assert files == {("t" * 16, "112.npz"), ("s" * 16, "14.npz")}
    monkeypatch.setattr(embed, "embed_records", None)  # would fail if called
    assert run("cams", settings, "student", FROM, caches).outcome == fresh.outcome


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("videos", {}, "which images of its templates are small: evaluate it with each model by itself"),
        ("pairs", {"score": "qmag", "qmag": (1, 2)}, "the score qmag compares lengths of features"),
        ("cams", {"centering": "per_resolution"}, "centering per_resolution needs means"),
        ("twice", {}, "record 0 is in its gallery and a probe: prepare it again"),
    ],
)
def test_what_two_models_cannot_read_is_told(data_dir, name, settings, sentence):
    planned = evaluation.plan(data_dir, {"native": {}, name: settings})
    with pytest.raises(UserError, match=f"test set {name} cannot be read by two models .*{sentence}"):
        two_models.check(planned)
    two_models.check(evaluation.plan(data_dir, {"native": {}, "pairs": {}, "far": {"split": "all"}}))


def test_a_calibration_of_two_models_tries_no_centering(data_dir):
    planned = evaluation.plan(data_dir, {"pairs": {}})
    assert calibration.with_other_centering(planned["pairs"]).also
    two = two_models.with_gallery(planned, weights="t", from_size=FROM)
    assert not calibration.with_other_centering(two["pairs"]).also


def test_protocols_settings_do_not_name_a_model():
    for kind in protocols.KIND_RULES:
        assert not protocols.settings_of(kind) & {"gallery", "is_small", "scoring"}
    small = {name for name, rules in protocols.PROTOCOLS.items() if getattr(rules, "is_small", False)}
    assert small == {"scface", "tinyface", "survface", "survface_verification"}
