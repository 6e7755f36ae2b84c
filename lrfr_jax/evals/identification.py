"""1:N identification: each probe is searched in a gallery, closed-set (ranks, mAP) and open-set (TPIR at FPIR)."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from lrfr_jax.data.protocol_arrays import IdentificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering, metrics
from lrfr_jax.evals.centering import Means
from lrfr_jax.evals.fusion import fuse
from lrfr_jax.evals.measures import Measure, in_full
from lrfr_jax.evals.scores import COSINE, Score
from lrfr_jax.evals.search import SearchResult, by_score, search
from lrfr_jax.image_ops import IMAGE_SIZE

WHOLE_SET = "all"
# Scores that exist at a time: above it matrix products gain no more speed.
SCORES_BYTES = 256 * 2**20
# Records fused at a time.
_CHUNK = 8192


def evaluate_identification(
    features_by_resolution: Mapping[int, Float[np.ndarray, "images views dim"]],
    protocol: IdentificationProtocol,
    *,
    fusion: str,
    split: str,
    ranks: tuple[int, ...],
    fpirs: tuple[float, ...],
    mean_average_precision: bool,
    resolutions: tuple[int, ...],
    score: Score = COSINE,
    means: Means | None = None,
) -> list[Measure]:
    """Searches the probes at full resolution and at each lower one in the gallery at full resolution.

    Measured for each group of probes: 'rankK' and 'map' over the probes with a mate; 'tpirK@fpir=F' for every K and F,
    where the threshold comes from the group's probes without a mate, see `metrics.tpir_at_fpir`. Scores are dot
    products of fused vectors: cosines (with 'concat' the sum of those of both orientations).

    The interval is Wilson's for the value and the mated probes of one repetition, which are its `trials`. Repetitions
    of a split draw from the same identities, so that an interval from their spread would be far too narrow. It takes
    probes of one identity as independent and a threshold as given. For 'map' it is wider than needed: of rates in
    [0, 1] with the same mean, hits and misses vary most.

    Args:
      features_by_resolution: raw features of [image, mirrored image], a row per record; the gallery's at the full
        resolution, the probes' at all.
      protocol: gallery, probes, groups and splits.
      fusion: a row of `fusion.FUSIONS`.
      split: 'all' for the whole set, else a name in `protocol.splits`: then the value is the mean over its repetitions.
      ranks: k of 'rankK' and 'tpirK', from 1 to the size of the gallery.
      fpirs: rates in (0, 1]; one below 1 / (number of probes without a mate) is left out.
      mean_average_precision: whether to add 'map', see `metrics.average_precisions`.
      resolutions: side lengths of the probes, any order; the full one is always added.
      score: of two faces.
      means: for centering: the mean embedding at each resolution; None or {} for no centering.

    Raises:
      UserError: a split that the set does not hold, ranks out of range, no probe with a mate in a group, or none
        without a mate where fpirs ask for them.
    """
    check(protocol, split=split, ranks=ranks, fpirs=fpirs)
    selections = _selections(protocol, split)
    gallery = _vectors(features_by_resolution[IMAGE_SIZE], protocol.gallery, fusion, (means or {}).get(IMAGE_SIZE))
    gallery_qualities = qualities_of(features_by_resolution[IMAGE_SIZE], protocol.gallery)
    measures = []
    for resolution in sorted({IMAGE_SIZE, *resolutions}, reverse=True):
        probes = _vectors(features_by_resolution[resolution], protocol.probes, fusion, (means or {}).get(resolution))
        qualities = qualities_of(features_by_resolution[resolution], protocol.probes)
        repetitions = []
        for in_gallery, in_probes in selections:
            found = search(
                probes[in_probes],
                gallery[in_gallery],
                protocol.probe_labels[in_probes],
                protocol.gallery_labels[in_gallery],
                num_top=0,
                memory_bytes=SCORES_BYTES,
                rescore=by_score(score, qualities[in_probes], gallery_qualities[in_gallery]),
            )
            groups = protocol.probe_groups[in_probes]
            rates = {}
            for index, group in enumerate(protocol.groups):
                measured = _rates(found, groups == index, ranks, fpirs, mean_average_precision)
                rates |= {(name, group): rate for name, rate in measured.items()}
            repetitions.append(rates)
        measures += _joined(repetitions, resolution)
    return measures


def check(protocol: IdentificationProtocol, *, split: str, ranks: tuple[int, ...], fpirs: tuple[float, ...]) -> None:
    """Raises UserError where `evaluate_identification` would: it needs no features, so it can come before them."""
    if not len(protocol.probes) or not len(protocol.gallery):
        raise UserError("the set holds no probes or no gallery: prepare it again")
    for in_gallery, in_probes in _selections(protocol, split):
        gallery_labels, probe_labels = protocol.gallery_labels[in_gallery], protocol.probe_labels[in_probes]
        check_ranks(ranks, len(gallery_labels))
        is_mated = np.isin(probe_labels, gallery_labels) & (probe_labels >= 0)
        for index, group in enumerate(protocol.groups):
            in_group = protocol.probe_groups[in_probes] == index
            where = f"group {group!r} of the probes" if group else "the set"
            if not (in_group & is_mated).any():
                raise UserError(
                    f"{where} holds no probe with a mate in the gallery: prepare the set with its identities"
                )
            if fpirs and not (in_group & ~is_mated).any():
                raise UserError(f"fpirs={fpirs} need probes without a mate, and {where} holds none: leave fpirs empty")


def check_ranks(ranks: tuple, gallery_size: int) -> None:
    """Raises UserError unless each rank is one that a gallery of this size has."""
    if not all(isinstance(rank, int) and 1 <= rank <= gallery_size for rank in ranks):
        raise UserError(f"ranks={ranks} must be whole numbers from 1 to {gallery_size}, the size of the gallery")


def _selections(protocol: IdentificationProtocol, split: str) -> list[tuple]:
    """What to take of gallery and probes in each repetition: indices of both."""
    if split == WHOLE_SET:
        return [(slice(None), slice(None))]  # views: a large gallery is not copied
    if split not in protocol.splits:
        known = ", ".join([WHOLE_SET, *protocol.splits])
        raise UserError(f"split={split!r} is none that the set holds: choose one of {known}")
    both = (protocol.gallery_labels, protocol.probe_labels)
    return [
        tuple(np.flatnonzero(np.isin(labels, row) | (labels < 0)) for labels in both) for row in protocol.splits[split]
    ]


def _vectors(
    features: Float[np.ndarray, "images views dim"],
    records: Int[np.ndarray, " records"],
    fusion: str,
    mean: Float[np.ndarray, " fused"] | None,
) -> Float[np.ndarray, "records fused"]:
    """Fuses, and centers by a mean, the features of some records, without a copy of all of these."""

    def vectors(part: np.ndarray) -> np.ndarray:
        fused = fuse(features[part], fusion=fusion)
        return fused if mean is None else centering.center(fused, mean).astype(np.float32)

    parts = [records[i : i + _CHUNK] for i in range(0, len(records), _CHUNK)]
    return np.concatenate([vectors(part) for part in parts])


def qualities_of(
    features: Float[np.ndarray, "images views dim"], records: Int[np.ndarray, " records"]
) -> Float[np.ndarray, " records"]:
    """The lengths of the raw features of some images themselves."""
    parts = [records[i : i + _CHUNK] for i in range(0, len(records), _CHUNK)]
    return np.concatenate([np.linalg.norm(features[part, 0], axis=-1) for part in parts])


def _rates(
    found: SearchResult,
    in_group: np.ndarray,
    ranks: tuple[int, ...],
    fpirs: tuple[float, ...],
    mean_average_precision: bool,
) -> dict[str, tuple[float, int]]:
    """Returns {name of the metric: (rate, number of mated probes)} for the probes of one group."""
    mated, unmated = in_group & found.is_mated, in_group & ~found.is_mated
    num_mated, num_unmated = int(mated.sum()), int(unmated.sum())
    best_ranks = found.best_mate_ranks[mated]
    rates = {f"rank{rank}": float(np.mean(best_ranks <= rank)) for rank in ranks}
    if mean_average_precision:
        rates["map"] = float(np.mean(metrics.average_precisions(found.mate_ranks, found.offsets)[mated]))
    for fpir in (fpir for fpir in fpirs if 1 / num_unmated <= fpir):
        for rank in ranks:
            rates[f"tpir{rank}@fpir={in_full(fpir)}"] = metrics.tpir_at_fpir(
                found.best_mate_scores[mated], best_ranks, found.best_other_scores[unmated], fpir=fpir, rank=rank
            )
    return {name: (rate, num_mated) for name, rate in rates.items()}


def _joined(repetitions: list[dict[tuple[str, str], tuple[float, int]]], resolution: int) -> list[Measure]:
    """Means over the repetitions; a rate that one of them could not resolve is left out."""
    measures = []
    for name, group in repetitions[0]:
        if not all((name, group) in rates for rates in repetitions):
            continue
        parts, trials = zip(*(rates[name, group] for rates in repetitions), strict=True)
        value, per_repetition = float(np.mean(parts)), round(np.mean(trials))
        measures.append(
            Measure(
                name=name,
                group=group,
                resolution=resolution,
                value=value,
                interval=metrics.wilson_interval(value, per_repetition, confidence=metrics.CONFIDENCE),
                parts=parts if len(parts) > 1 else (),
                trials=per_repetition,
            )
        )
    return measures
