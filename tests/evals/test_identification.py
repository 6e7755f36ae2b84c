import dataclasses

import numpy as np
import pytest

from lrfr_jax.data.protocol_arrays import DISTRACTOR, IdentificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import fusion, identification, metrics
from lrfr_jax.evals.scores import Line, Score

RNG = np.random.default_rng(7)
SETTINGS = {
    "fusion": "none",
    "split": "all",
    "ranks": (1, 2),
    "fpirs": (),
    "mean_average_precision": False,
    "resolutions": (),
}


def evaluate(features, protocol, **changes):
    measures = identification.evaluate_identification(features, protocol, **SETTINGS | changes)
    return {(measure.name, measure.group, measure.resolution): measure for measure in measures}


def both_sides(vectors):
    return np.stack([vectors, vectors], axis=1).astype(np.float32)


# Ten identities, each an axis. Records 0..9: gallery; 10: a distractor on axis 10; 11..30: two probes of each, 'd1' and
# 'd2'. The d1 probe of identity 2 looks like 3, that of 4 like the distractor; at 14 px all d2 probes look like 0.
AXES = np.eye(11)
PROTOCOL = IdentificationProtocol(
    gallery=np.arange(11),
    gallery_labels=np.array([*range(10), DISTRACTOR]),
    probes=np.arange(11, 31),
    probe_labels=np.repeat(np.arange(10), 2),
    probe_groups=np.tile([0, 1], 10),
    groups=("d1", "d2"),
    splits={"halves": np.array([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 2, 4, 6, 8]]), "one": np.array([[4, 5]])},
)


def confused():
    full = AXES[[*range(11), *np.repeat(np.arange(10), 2)]]
    full[11 + 2 * 2] += 2 * AXES[3]
    full[11 + 2 * 4] += 2 * AXES[10]
    low = full.copy()
    low[12::2] += 2 * AXES[0]
    return {112: both_sides(full), 14: both_sides(low)}


def test_planted_confusions_of_the_whole_set():
    found = evaluate(confused(), PROTOCOL, resolutions=(14, 112))
    values = {key: measure.value for key, measure in found.items()}
    assert values == {
        ("rank1", "d1", 112): 0.8,
        ("rank2", "d1", 112): 1.0,
        ("rank1", "d2", 112): 1.0,
        ("rank2", "d2", 112): 1.0,
        ("rank1", "d1", 14): 0.8,
        ("rank2", "d1", 14): 1.0,
        ("rank1", "d2", 14): 0.1,
        ("rank2", "d2", 14): 1.0,
    }
    measure = found["rank1", "d1", 112]
    assert (measure.parts, measure.trials) == ((), 10)
    assert measure.interval == metrics.wilson_interval(0.8, 10, confidence=0.95)


def test_a_split_leaves_others_out_and_keeps_the_distractors():
    found = evaluate(confused(), PROTOCOL, split="halves", ranks=(1,))
    measure = found["rank1", "d1", 112]
    assert measure.parts == (0.6, 1.0, 0.8)  # without 3 in the gallery 2 is found, 4 never
    assert measure.value == pytest.approx(0.8)
    assert measure.trials == 5
    assert measure.interval == metrics.wilson_interval(measure.value, 5, confidence=0.95)
    assert measure.interval[0] < min(measure.parts)
    one = evaluate(confused(), PROTOCOL, split="one", ranks=(1,))["rank1", "d1", 112]
    assert (one.value, one.parts) == (0.5, ())


def made_up(num_records=60):
    """Random features, several mates each, distractors, nameless probes and probes of identities not in the gallery."""
    features = {r: RNG.normal(size=(num_records, 2, 8)).astype(np.float32) for r in (112, 14)}
    order = RNG.permutation(num_records)
    protocol = IdentificationProtocol(
        gallery=order[:30],
        gallery_labels=np.where(np.arange(30) < 24, np.arange(30) % 8, DISTRACTOR),
        probes=order[30:],
        probe_labels=np.where(np.arange(30) < 4, DISTRACTOR, np.arange(30) % 10),
        probe_groups=np.zeros(30, int),
        groups=("",),
    )
    return features, protocol


@pytest.mark.parametrize("name", fusion.FUSIONS)
def test_measures_are_those_of_the_whole_matrix(name):
    features, protocol = made_up()
    found = evaluate(
        features,
        protocol,
        fusion=name,
        ranks=(1, 5, 30),
        fpirs=(0.5, 0.1, 0.09),
        mean_average_precision=True,
        resolutions=(14,),
    )
    gallery = fusion.fuse(features[112][protocol.gallery], fusion=name)
    mated = np.isin(protocol.probe_labels, np.arange(8))
    for resolution in (112, 14):
        scores = fusion.fuse(features[resolution][protocol.probes], fusion=name) @ gallery.T
        arguments = (scores[mated], protocol.probe_labels[mated], protocol.gallery_labels)
        cmc = metrics.cmc(*arguments, ranks=(1, 5, 30))
        assert cmc == {rank: found[f"rank{rank}", "", resolution].value for rank in cmc}
        expected = metrics.mean_average_precision(*arguments)
        assert found["map", "", resolution].value == pytest.approx(expected, abs=1e-12)
        assert found["map", "", resolution].trials == mated.sum() == 20
        best_unmated = scores[~mated].max(axis=1)
        assert len(best_unmated) == 10
        for fpir, allowed in ((0.5, 5), (0.1, 1)):
            threshold = np.sort(best_unmated)[::-1][allowed]
            for rank in (1, 5, 30):
                hits = 0
                for row, label in zip(*arguments[:2], strict=True):
                    mate = row[protocol.gallery_labels == label].max()
                    ahead = np.sum(row[protocol.gallery_labels != label] >= mate)
                    hits += mate > threshold and ahead < rank
                assert found[f"tpir{rank}@fpir={fpir}", "", resolution].value == hits / 20
    assert not any("0.09" in key[0] for key in found)  # 10 searches without a mate cannot resolve it


def test_a_wrong_answer_of_an_unmated_probe_sets_the_threshold():
    # Two unmated probes reach 0.6 and 0.8 in the gallery; the mates score 0.6 (a tie), 0.7, 0.9 and, at rank 2, 0.95.
    def turned(cosine, axis, other):
        return cosine * AXES[axis] + np.sqrt(1 - cosine**2) * AXES[other]

    probes = [turned(0.6, 0, 9), turned(0.7, 1, 9), turned(0.9, 2, 9), turned(0.6, 3, 4), *np.zeros((2, 11))]
    probes[4:] = turned(0.6, 0, 9), turned(0.8, 1, 9)
    protocol = dataclasses.replace(
        PROTOCOL,
        gallery=np.arange(5),
        gallery_labels=np.arange(5),
        probes=np.arange(5, 11),
        probe_labels=np.array([0, 1, 2, 3, DISTRACTOR, 77]),
        probe_groups=np.zeros(6, int),
        groups=("",),
        splits={"two": np.array([[0, 1, 2, 3, 77], [2, 0, 1, 3, 4]])},
    )
    features = {112: both_sides(np.concatenate([AXES[:5], probes]))}
    found = evaluate(features, protocol, fpirs=(0.5, 1.0), ranks=(1, 2))
    values = {key[0]: measure.value for key, measure in found.items() if "tpir" in key[0]}
    # At FPIR 0.5 the threshold is 0.6 itself, which is not above itself; 0.8 of identity 4 beats the fourth's mate.
    assert values == {"tpir1@fpir=0.5": 0.5, "tpir2@fpir=0.5": 0.5, "tpir1@fpir=1": 0.75, "tpir2@fpir=1": 1.0}
    # The second row leaves identity 77 out: one unmated probe is left, and 0.5 of it cannot be resolved.
    split = evaluate(features, protocol, split="two", fpirs=(0.5, 1.0), ranks=(1,))
    assert [key[0] for key in split] == ["rank1", "tpir1@fpir=1"]
    assert split["tpir1@fpir=1", "", 112].parts == (1.0, 0.75)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"split": "random_80"}, "split='random_80' is none that the set holds: choose one of all, halves, one"),
        ({"ranks": (0, 1)}, "from 1 to 11, the size of the gallery"),
        ({"ranks": (12,)}, "from 1 to 11"),
        ({"ranks": (4,), "split": "one"}, "from 1 to 3"),
        ({"fpirs": (0.1,)}, "group 'd1' of the probes holds none: leave fpirs empty"),
    ],
)
def test_bad_settings_are_told(change, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(confused(), PROTOCOL, **change)


def test_a_rank_between_two_is_told():
    with pytest.raises(UserError, match="whole numbers"):
        identification.check_ranks((1.5,), 10)


def test_unusable_sets_are_told():
    strangers = dataclasses.replace(PROTOCOL, probe_labels=PROTOCOL.probe_labels + 50)
    with pytest.raises(UserError, match="group 'd1' of the probes holds no probe with a mate"):
        evaluate(confused(), strangers)
    with pytest.raises(UserError, match="the set holds no probe with a mate"):
        evaluate(confused(), dataclasses.replace(strangers, groups=("",), probe_groups=np.zeros(20, int)))
    nobody = {"probes": np.arange(0), "probe_labels": np.arange(0), "probe_groups": np.arange(0)}
    with pytest.raises(UserError, match="no probes"):
        evaluate(confused(), dataclasses.replace(PROTOCOL, **nobody))


def test_another_score_and_centering_change_who_is_found():
    """A long feature of another identity is nearer by its cosine; by qmag it is not, as both are of high quality."""
    score = Score("qmag", Line(0.5, 0.5))
    vectors = np.zeros((4, 3))
    vectors[0], vectors[1] = (8.0, 6.0, 0.0), (0.3, 0.0, 0.4)  # gallery: cosines with the probe 0.8, 0.6
    vectors[2], vectors[3] = (10.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    protocol = dataclasses.replace(
        PROTOCOL,
        gallery=np.arange(2),
        gallery_labels=np.array([5, 7]),
        probes=np.array([2]),
        probe_labels=np.array([7]),
        probe_groups=np.zeros(1, int),
        groups=("",),
        splits={},
    )
    rank1 = {"ranks": (1,)}
    key = ("rank1", "", 112)
    features = {112: both_sides(vectors)}
    assert evaluate(features, protocol, **rank1)[key].value == 0
    # 0.8 - 0.1 * 10 against 0.6 - 0.2 * 0.5
    assert evaluate(features, protocol, **rank1, score=score)[key].value == 1
    # Without (0.9, 0.3, 0) the first of the gallery and the probe point to opposite sides.
    assert evaluate(features, protocol, **rank1, means={112: np.array([0.9, 0.3, 0.0], np.float32)})[key].value == 1
    assert evaluate(features, protocol, **rank1, means={112: np.zeros(3, np.float32)})[key].value == 0
