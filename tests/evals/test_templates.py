import dataclasses
import math

import numpy as np
import pytest

from lrfr_jax.data.protocol_arrays import TemplateProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import fusion, metrics, pooling, templates
from lrfr_jax.evals.scores import COSINE, Line, Score

RNG = np.random.default_rng(23)
SETTINGS = {"fusion": "sum", "weights": "norm", "use_faceness": True, "fars": (), "ranks": (), "fpirs": ()}
SUBJECTS = np.arange(60) % 16  # of template t; templates 0..7 and 8..15 are the galleries, the others probes


def made_up():
    """150 images of 60 templates in shuffled order; features lean towards their subject's."""
    numbers = RNG.permutation(np.concatenate([np.arange(60), RNG.integers(0, 60, 90)]))
    centers = RNG.normal(size=(16, 12))
    features = centers[SUBJECTS[numbers], None] + 1.5 * RNG.normal(size=(150, 2, 12))
    pairs = RNG.integers(0, 60, (900, 2))
    protocol = TemplateProtocol(
        templates=numbers,
        media=RNG.integers(0, 3, 150),
        faceness=RNG.random(150),
        pairs=pairs,
        is_same=SUBJECTS[pairs[:, 0]] == SUBJECTS[pairs[:, 1]],
        galleries={"G1": (np.arange(8), SUBJECTS[:8]), "G2": (np.arange(8, 16), SUBJECTS[8:16])},
        probe_templates=np.arange(16, 60),
        probe_subjects=SUBJECTS[16:],
    )
    return (features * RNG.uniform(0.5, 3, (150, 1, 1))).astype(np.float32), protocol


FEATURES, PROTOCOL = made_up()


def evaluate(features=FEATURES, protocol=PROTOCOL, **changes):
    measures = templates.evaluate_templates(features, protocol, **SETTINGS | changes)
    return {measure.name: measure for measure in measures}


def pool(features=FEATURES, protocol=PROTOCOL, *, fusion="sum", weights="norm", use_faceness=True):
    how = {"score": COSINE, "mean": None}
    return pooling.pool(features, protocol, fusion=fusion, weights=weights, use_faceness=use_faceness, **how).vectors


VECTORS = pool()


@pytest.mark.parametrize("name", fusion.FUSIONS)
@pytest.mark.parametrize("weights", pooling.WEIGHTS)
@pytest.mark.parametrize("use_faceness", [True, False])
def test_pooling_is_the_slow_loop(name, weights, use_faceness, monkeypatch):
    if weights == "norm" and name in ("concat", "unit_sum"):
        with pytest.raises(UserError, match=f"does not go with fusion='{name}': choose 'unit', or 'norm' with none"):
            pool(fusion=name, weights=weights, use_faceness=use_faceness)
        return
    images = fusion.FUSIONS[name](FEATURES)
    if weights == "norm":
        images = FEATURES[:, 0] if name == "none" else FEATURES[:, 0] + FEATURES[:, 1]
    if use_faceness:
        images = images * PROTOCOL.faceness[:, None]
    expected = []
    for template in range(60):
        of_template = PROTOCOL.templates == template
        media = [
            images[of_template & (PROTOCOL.media == medium)].mean(axis=0)
            for medium in np.unique(PROTOCOL.media[of_template])
        ]
        expected.append(np.sum(media, axis=0) / np.linalg.norm(np.sum(media, axis=0)))
    for chunk in (10**4, 7):  # 7: a template goes on in the next chunk
        monkeypatch.setattr(templates, "_CHUNK", chunk)
        found = pool(fusion=name, weights=weights, use_faceness=use_faceness)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_many_frames_of_one_video_weigh_as_much_as_one_photo():
    x, y = np.eye(2, dtype=np.float32)
    features = np.stack([np.stack([v, v]) for v in (x, x, x, y)])
    protocol = dataclasses.replace(
        PROTOCOL, templates=np.zeros(4, int), media=np.array([5, 5, 5, 9]), faceness=np.ones(4)
    )
    np.testing.assert_allclose(pool(features, protocol), [[0.5**0.5] * 2], atol=1e-7)


def test_order_of_images_does_not_matter():
    order = RNG.permutation(150)
    images = {key: getattr(PROTOCOL, key)[order] for key in ("templates", "media", "faceness")}
    np.testing.assert_allclose(pool(FEATURES[order], dataclasses.replace(PROTOCOL, **images)), VECTORS, atol=1e-6)


def test_verification_compares_the_pairs(monkeypatch):
    fars = (0.1, 0.01, 0.001)
    found = evaluate(fars=fars)
    first, second = VECTORS[PROTOCOL.pairs].astype(np.float64).transpose(1, 0, 2)
    scores, is_same = np.sum(first * second, axis=1), PROTOCOL.is_same
    assert np.sum(~is_same) < 1000  # so that 0.001 cannot be resolved
    nearest = metrics.tar_at_nearest_far(scores, is_same, fars=fars)
    expected = {f"tar@far={far}": metrics.tar_at_far(scores, is_same, far=far) for far in fars[:2]}
    expected |= {f"tar_nearest@far={far}": nearest[far] for far in fars[:2]}
    assert {name: measure.value for name, measure in found.items()} == expected
    assert 0 < expected["tar@far=0.01"] < expected["tar@far=0.1"] < 1
    for measure in found.values():
        assert measure.trials == np.sum(is_same)
        assert measure.interval == metrics.wilson_interval(measure.value, measure.trials, confidence=0.95)
    monkeypatch.setattr(templates, "_CHUNK", 11)
    assert {name: measure.value for name, measure in evaluate(fars=fars).items()} == expected


def test_identification_is_the_slow_loops():
    fpirs = (0.1, 0.2, 0.01)
    found = evaluate(ranks=(1, 5, 10), fpirs=fpirs)
    scores = VECTORS[16:] @ VECTORS[:16].T
    labels = SUBJECTS[16:]
    cmc = metrics.cmc(scores, labels, SUBJECTS[:16], ranks=(1, 5, 10))
    assert {rank: found[f"rank{rank}"].value for rank in cmc} == cmc
    for fpir in fpirs[:2]:
        # InsightFace: one mate per probe; the threshold is the n-th highest of all other scores.
        mates = scores[np.arange(44), labels]
        others = sorted((scores[i, j] for i in range(44) for j in range(16) if j != labels[i]), reverse=True)
        threshold = others[math.ceil(44 * fpir) - 1]
        assert found[f"tpir_pooled@fpir={fpir}"].value == sum(score > threshold for score in mates) / 44
        # NIST: the threshold is a probe's highest score, of those without a mate in the gallery.
        parts = []
        for gallery in (range(8), range(8, 16)):
            strangers = sorted((max(scores[i, gallery]) for i in range(44) if labels[i] not in gallery), reverse=True)
            threshold = strangers[int(len(strangers) * fpir + 1e-9)]
            known = [scores[i, labels[i]] > threshold for i in range(44) if labels[i] in gallery]
            parts.append(np.mean(known))
        assert found[f"tpir@fpir={fpir}"].parts == tuple(parts)
        assert found[f"tpir@fpir={fpir}"].value == np.mean(parts)
        assert 0 < np.mean(parts) < 1
    assert "tpir@fpir=0.01" not in found  # some 20 probes without a mate cannot resolve it
    assert found["tpir_pooled@fpir=0.01"].value == np.mean(mates > others[0])
    assert all(measure.trials == 44 for measure in found.values())
    assert {(measure.group, measure.resolution) for measure in found.values()} == {("", 112)}


def test_planted_answers():
    """Templates are axes, and probes their gallery templates but for one stranger and one impostor."""
    axes = np.eye(5)
    probes = np.stack([axes[0], axes[1], 0.8 * axes[2] + 0.6 * axes[4], 0.9 * axes[3] + 0.1**0.5 * axes[0]])
    features = np.repeat(np.concatenate([axes[:4], probes])[:, None], 2, axis=1).astype(np.float32)
    protocol = TemplateProtocol(
        templates=np.arange(8),
        media=np.arange(8),
        faceness=np.ones(8),
        pairs=np.array([[0, 4], [1, 5], [2, 6], [0, 5], [1, 4], [3, 7]]),
        is_same=np.array([True, True, True, False, False, False]),
        galleries={"one": (np.array([0, 1]), np.array([0, 1])), "two": (np.array([2, 3]), np.array([2, 9]))},
        probe_templates=np.arange(4, 8),
        probe_subjects=np.array([0, 1, 2, 3]),  # the last one's subject is in no gallery, and looks like 9
    )
    found = evaluate(features, protocol, weights="unit", fars=(1 / 3, 0.5), ranks=(1, 4), fpirs=(0.25, 0.4, 0.5))
    values = {name: measure.value for name, measure in found.items() if "far" not in name}
    # The stranger reaches 0.94 in 'two'; the others' highest score without a mate is at most 0.33.
    expected = {f"tpir_pooled@fpir={fpir}": value for fpir, value in ((0.25, 2 / 3), (0.4, 1), (0.5, 1))}
    assert values == expected | {"rank1": 1, "rank4": 1, "tpir@fpir=0.5": 1}
    assert found["tpir@fpir=0.5"].parts == (1, 1)  # one of two strangers, and one of three, may pass
    # The 0.94 pair passes at FAR 1/3, and then all genuine ones do.
    assert [found[f"tar@far={far}"].value for far in ("0.3333333333333333", "0.5")] == [1, 1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"pairs": np.where(PROTOCOL.pairs > 57, PROTOCOL.pairs + 2, PROTOCOL.pairs)},
            r"template 60 is compared and has no image \(2 such\)",
        ),
        ({"templates": PROTOCOL.templates - 1}, "count from 0"),
        ({"pairs": PROTOCOL.pairs - 1}, "count from 0"),
        ({"galleries": {"G1": (np.array([3, 3]), np.array([3, 3]))}}, "template 3 stands twice in G1"),
        ({"probe_templates": np.full(44, 16), "probe_subjects": np.zeros(44, int)}, "stands twice in probes"),
        ({"galleries": {"G1": (np.array([3]), np.array([3])), "G2": (np.array([3]), np.array([4]))}}, "two subjects"),
        ({"galleries": {}}, "no galleries: leave ranks and fpirs empty"),
        ({"is_same": np.zeros(900, bool)}, "0 genuine and 900 impostor pairs: leave fars empty"),
        ({"faceness": np.where(np.arange(150) == 3, np.nan, 0.5)}, "a faceness is negative or not finite"),
        ({"probe_subjects": np.arange(44) + 100}, "no probe has a mate in the galleries"),
        ({"probe_subjects": np.arange(44) % 8}, "with and without a mate in gallery G1, which 44 of 44 have"),
    ],
)
def test_contradictions_of_a_set_are_told(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate(protocol=dataclasses.replace(PROTOCOL, **changes), fars=(0.1,), ranks=(1,), fpirs=(0.5,))


def test_bad_settings_are_told():
    with pytest.raises(UserError, match="from 1 to 16, the size of the gallery"):
        evaluate(ranks=(17,))
    with pytest.raises(UserError, match="weights='length' does not go"):
        evaluate(weights="length")


def test_a_template_in_both_galleries_is_searched_once():
    galleries = PROTOCOL.galleries | {"G2": (np.arange(1, 16), SUBJECTS[1:16])}
    found = evaluate(protocol=dataclasses.replace(PROTOCOL, galleries=galleries), ranks=(1, 5, 16), fpirs=(0.1,))
    once = evaluate(ranks=(1, 5, 16), fpirs=(0.1,))
    for name in ("rank1", "rank5", "rank16", "tpir_pooled@fpir=0.1"):
        assert found[name] == once[name]


def test_more_searches_than_scores_of_others_cannot_be_resolved():
    galleries = {"G1": (np.arange(1), SUBJECTS[:1])}
    found = evaluate(protocol=dataclasses.replace(PROTOCOL, galleries=galleries), fpirs=(0.5, 1.0))
    assert list(found) == ["tpir_pooled@fpir=0.5", "tpir@fpir=0.5", "tpir@fpir=1"]


QMAG = Score("qmag", Line(0.08, 0.12))


def test_the_score_qmag_pools_by_quality_within_a_medium_then_over_media():
    pooled = pooling.pool(FEATURES, PROTOCOL, fusion="none", weights="norm", use_faceness=False, score=QMAG, mean=None)

    def merged(vectors, lengths):
        total = sum(length * vector for vector, length in zip(vectors, lengths, strict=True))
        length = sum(one**2 for one in lengths) / sum(lengths)
        return total / np.linalg.norm(total) * length, length

    for template in range(60):
        of_media = []
        for medium in np.unique(PROTOCOL.media[PROTOCOL.templates == template]):
            images = FEATURES[(PROTOCOL.templates == template) & (PROTOCOL.media == medium), 0].astype(np.float64)
            of_media.append(merged(images, np.linalg.norm(images, axis=1)))
        vector, length = merged(*zip(*of_media, strict=True))
        np.testing.assert_allclose(pooled.vectors[template], vector / np.linalg.norm(vector), atol=1e-5)
        assert pooled.qualities[template] == pytest.approx(length, rel=1e-5)


def test_the_score_qmag_counts_in_pairs_and_searches():
    how = {"fusion": "none", "use_faceness": False}
    asked = {"fars": (0.1,), "ranks": (1,), "fpirs": (0.5,)}
    found = evaluate(**how, **asked, score=QMAG)
    pooled = pooling.pool(FEATURES, PROTOCOL, weights="norm", **how, score=QMAG, mean=None)

    def scores(first, second):
        cosines = np.sum(pooled.vectors[first] * pooled.vectors[second], axis=-1)
        return QMAG.of(cosines, np.minimum(pooled.qualities[first], pooled.qualities[second]))

    expected = metrics.tar_at_far(scores(*PROTOCOL.pairs.T), PROTOCOL.is_same, far=0.1)
    assert found["tar@far=0.1"].value == pytest.approx(expected)
    probes = np.repeat(np.arange(16, 60), 16)
    matrix = scores(probes, np.tile(np.arange(16), 44)).reshape(44, 16)
    assert found["rank1"].value == np.mean(SUBJECTS[matrix.argmax(axis=1)] == SUBJECTS[16:60])
    zero = Score("qmag", Line(0.0, 0.0))
    same = {name: one.value for name, one in evaluate(**how, **asked, score=zero).items()}
    assert same.keys() == found.keys()
    with pytest.raises(UserError, match="score qmag weighs images by their quality alone: set use_faceness=False"):
        evaluate(fusion="none", fars=(0.1,), score=QMAG)


def test_centering_takes_the_mean_of_every_image_away():
    mean = np.full(12, 0.1, np.float32)
    moved = FEATURES[:, 0].astype(np.float64)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    moved = moved / lengths - mean
    moved *= lengths / np.linalg.norm(moved, axis=1, keepdims=True)
    how = {"fusion": "none", "fars": (0.1, 0.01)}
    by_hand, found = evaluate(moved[:, None].astype(np.float32), **how), evaluate(**how, means={112: mean})
    for name, measure in by_hand.items():
        assert found[name].value == pytest.approx(measure.value, abs=2 / np.sum(PROTOCOL.is_same))
