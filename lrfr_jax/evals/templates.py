"""IJB-B and IJB-C: sets of images of one subject are pooled into a vector, compared in pairs, searched in galleries."""

import math

import numpy as np
from jaxtyping import Float

from lrfr_jax.data.protocol_arrays import TemplateProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics, pooling
from lrfr_jax.evals.centering import Means
from lrfr_jax.evals.identification import SCORES_BYTES, check_ranks
from lrfr_jax.evals.measures import Measure, in_full
from lrfr_jax.evals.pooling import Pooled
from lrfr_jax.evals.scores import COSINE, Score
from lrfr_jax.evals.search import SearchResult, by_score, search
from lrfr_jax.image_ops import IMAGE_SIZE

# Pairs at a time.
_CHUNK = 8192


def evaluate_templates(
    features: Float[np.ndarray, "images views dim"],
    protocol: TemplateProtocol,
    *,
    fusion: str,
    weights: str,
    use_faceness: bool,
    fars: tuple[float, ...],
    ranks: tuple[int, ...],
    fpirs: tuple[float, ...],
    score: Score = COSINE,
    means: Means | None = None,
) -> list[Measure]:
    """Pools the images of each template, then measures 1:1 and 1:N; a score is of the dot product of two templates.

    - 'tar@far=F': 1:1 over all pairs, see `metrics.tar_at_far`; 'tar_nearest@far=F': InsightFace's, see
      `metrics.tar_at_nearest_far`. A far below 1 / (number of impostor pairs) is left out.
    - 'rankK': probes with a mate in the union of the galleries, searched in the union, as InsightFace does.
    - 'tpir@fpir=F': each gallery is searched by itself; the threshold is one that no more than a share F of the probes
      without a mate in it exceed with their highest score; a mate above it counts at any rank. Mean over the galleries,
      which are the parts. An fpir below 1 / (number of such probes) is left out.
    - 'tpir_pooled@fpir=F': InsightFace's. The union is searched, and the threshold is the ceil(F * probes)-th highest
      of all scores of others. A probe may exceed it many times, so that it is stricter than a rate of searches.

    Intervals are Wilson's for the number of genuine pairs or probes with a mate; they take these as independent, though
    a template is in many pairs, and thresholds as given.

    Args:
      features: raw features of [image, mirrored image] of every record.
      protocol: templates, media, pairs, galleries and probes.
      fusion, weights, use_faceness, score: see `pooling.pool`.
      fars, fpirs: rates in (0, 1].
      ranks: from 1 to the size of the union of the galleries.
      means: for centering: the mean embedding at full resolution; None or {} for no centering.

    Raises:
      UserError: a protocol that contradicts itself, ranks out of range, or rates for which it holds nothing to measure.

    References:
      Maze et al. 2018, IARPA Janus Benchmark - C. InsightFace, recognition/_evaluation_/ijb.
    """
    check_protocol(protocol)
    how = {"fusion": fusion, "weights": weights, "use_faceness": use_faceness, "score": score}
    pooled = pooling.pool(features, protocol, mean=(means or {}).get(IMAGE_SIZE), **how)
    measures = _verify(pooled, protocol, fars, score) if fars else []
    if ranks or fpirs:
        if not protocol.galleries:
            raise UserError("the set holds no galleries: leave ranks and fpirs empty")
        measures += _search_union(pooled, protocol, ranks, fpirs, score)
        measures += _search_galleries(pooled, protocol, fpirs, score)
    return measures


def check(protocol: TemplateProtocol, *, fusion: str, weights: str, use_faceness: bool, score: Score) -> None:
    """Raises UserError where `evaluate_templates` would for these: it needs no features, so it can come before them."""
    pooling.check(protocol, fusion=fusion, weights=weights, use_faceness=use_faceness, score=score)
    check_protocol(protocol)


def check_protocol(protocol: TemplateProtocol) -> None:
    """Raises UserError where templates have no image, are listed twice, or have two subjects."""
    listed = {"probes": (protocol.probe_templates, protocol.probe_subjects), **protocol.galleries}
    used = np.concatenate([protocol.pairs.ravel(), *(templates for templates, _ in listed.values())])
    if not len(protocol.templates) or min(protocol.templates.min(), used.min(initial=0)) < 0:
        raise UserError("template numbers must count from 0, and there must be one: prepare the set again")
    has_image = np.zeros(max(used.max(initial=0), protocol.templates.max()) + 1, bool)
    has_image[protocol.templates] = True
    missing = np.unique(used[~has_image[used]])
    if len(missing):
        raise UserError(f"template {missing[0]} is compared and has no image ({len(missing)} such): prepare again")
    for name, (templates, _) in listed.items():
        numbers, counts = np.unique(templates, return_counts=True)
        if np.any(counts > 1):
            raise UserError(f"template {numbers[counts > 1][0]} stands twice in {name}: it must be listed once")
    templates, subjects = (np.concatenate(parts) for parts in zip(*listed.values(), strict=True))
    known = np.unique(np.stack([templates, subjects], axis=1), axis=0)[:, 0]
    twice = known[1:][known[1:] == known[:-1]]
    if len(twice):
        raise UserError(f"template {twice[0]} is listed with two subjects: it must show one")


def _verify(pooled: Pooled, protocol: TemplateProtocol, fars: tuple[float, ...], score: Score) -> list[Measure]:
    is_same = protocol.is_same
    genuine, impostors = int(np.sum(is_same)), int(np.sum(~is_same))
    if not genuine or not impostors:
        raise UserError(f"the set holds {genuine} genuine and {impostors} impostor pairs: leave fars empty")
    scores = np.empty(len(is_same), np.float32)
    for i in range(0, len(is_same), _CHUNK):
        first, second = protocol.pairs[i : i + _CHUNK].T
        cosines = np.einsum("pd,pd->p", pooled.vectors[first], pooled.vectors[second])
        scores[i : i + _CHUNK] = score.of(cosines, np.minimum(pooled.qualities[first], pooled.qualities[second]))
    resolvable = tuple(far for far in fars if 1 / impostors <= far)
    nearest = metrics.tar_at_nearest_far(scores, is_same, fars=resolvable)
    rates = {f"tar@far={in_full(far)}": metrics.tar_at_far(scores, is_same, far=far) for far in resolvable}
    rates |= {f"tar_nearest@far={in_full(far)}": rate for far, rate in nearest.items()}
    return [_measure(name, rate, genuine) for name, rate in rates.items()]


def _search(
    pooled: Pooled, protocol: TemplateProtocol, gallery: np.ndarray, subjects: np.ndarray, score: Score, num_top: int
) -> SearchResult:
    """Searches all probes in some templates."""
    probes = protocol.probe_templates
    return search(
        pooled.vectors[probes],
        pooled.vectors[gallery],
        protocol.probe_subjects,
        subjects,
        num_top=num_top,
        memory_bytes=SCORES_BYTES,
        rescore=by_score(score, pooled.qualities[probes], pooled.qualities[gallery]),
    )


def _search_union(
    pooled: Pooled,
    protocol: TemplateProtocol,
    ranks: tuple[int, ...],
    fpirs: tuple[float, ...],
    score: Score,
) -> list[Measure]:
    templates, subjects = (np.concatenate(parts) for parts in zip(*protocol.galleries.values(), strict=True))
    templates, kept = np.unique(templates, return_index=True)
    check_ranks(ranks, len(templates))
    order = {fpir: math.ceil(fpir * len(protocol.probe_templates)) for fpir in fpirs}
    found = _search(pooled, protocol, templates, subjects[kept], score, max(order.values(), default=0))
    mated = found.is_mated
    if not mated.any():
        raise UserError("no probe has a mate in the galleries: prepare the set again, with its subjects")
    rates = {f"rank{rank}": float(np.mean(found.best_mate_ranks[mated] <= rank)) for rank in ranks}
    for fpir in (fpir for fpir in fpirs if order[fpir] <= np.sum(np.isfinite(found.top_other_scores))):
        threshold = found.top_other_scores[order[fpir] - 1]
        rates[f"tpir_pooled@fpir={in_full(fpir)}"] = float(np.mean(found.best_mate_scores[mated] > threshold))
    return [_measure(name, rate, int(mated.sum())) for name, rate in rates.items()]


def _search_galleries(
    pooled: Pooled, protocol: TemplateProtocol, fpirs: tuple[float, ...], score: Score
) -> list[Measure]:
    if not fpirs:
        return []
    results = [
        _search(pooled, protocol, templates, subjects, score, 0) for templates, subjects in protocol.galleries.values()
    ]
    for name, found in zip(protocol.galleries, results, strict=True):
        mated = int(found.is_mated.sum())
        if mated in (0, len(found.is_mated)):
            raise UserError(
                f"fpirs={fpirs} need probes with and without a mate in gallery {name}, which {mated} of "
                f"{len(found.is_mated)} have: leave fpirs empty"
            )
    measures = []
    for fpir in (fpir for fpir in fpirs if all(1 / np.sum(~found.is_mated) <= fpir for found in results)):
        parts = tuple(
            metrics.tpir_at_fpir(
                found.best_mate_scores[found.is_mated],
                found.best_mate_ranks[found.is_mated],
                found.best_other_scores[~found.is_mated],
                fpir=fpir,
                rank=len(pooled.vectors),
            )
            for found in results
        )
        mated = sum(int(found.is_mated.sum()) for found in results)
        measures.append(_measure(f"tpir@fpir={in_full(fpir)}", float(np.mean(parts)), mated, parts))
    return measures


def _measure(name: str, value: float, trials: int, parts: tuple[float, ...] = ()) -> Measure:
    interval = metrics.wilson_interval(value, trials, confidence=metrics.CONFIDENCE)
    return Measure(name, "", IMAGE_SIZE, value, interval, parts if len(parts) > 1 else (), trials)
