"""Every test set of an evaluation: opened, embedded once at all resolutions it needs, scored by its kind's rules."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from lrfr_jax.data import face_sets, protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering, embed, identification, protocols, scores, templates, verification
from lrfr_jax.evals.centering import Means
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from lrfr_jax.evals.measures import Measure
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.terminal import progress

# The records that are embedded, by resolution.
Wanted = Mapping[int, Int[np.ndarray, " _"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A test set, and by which rules and at which resolutions it is evaluated.

    `means` are those of the model's card, which centering needs but in folds of pairs; `also` are rules by which the
    same features are scored as well. `gallery_from` is the size from which on faces are read by the model of the
    gallery (`rules.gallery` says which); None where one model reads all.
    """

    test_set: face_sets.TestSet
    protocol: str
    rules: protocols.Rules
    resolutions: tuple[int, ...]
    means: Means = dataclasses.field(default_factory=dict)
    also: tuple[protocols.Rules, ...] = ()
    gallery_from: int | None = None

    @property
    def wanted(self) -> Wanted:
        """The records that are embedded, by resolution: galleries and templates at the full one alone."""
        stored = self.test_set.protocol
        if isinstance(stored, protocol_arrays.VerificationProtocol):
            return verification.wanted_records(stored, self.rules, resolutions=self.resolutions)
        lower = [r for r in self.resolutions if r < IMAGE_SIZE]
        full = {IMAGE_SIZE: np.unique(stored.used_records)}
        return full | ({r: np.unique(stored.probes) for r in lower} if lower else {})

    @property
    def wanted_by_reader(self) -> tuple[Wanted, Wanted]:
        """What the evaluated model and what the gallery's model embeds of `wanted`; a gallery is the latter's."""
        if self.gallery_from is None:
            return self.wanted, {}
        small = {r: records for r, records in self.wanted.items() if r < self.gallery_from}
        large = {r: records for r, records in self.wanted.items() if r not in small}
        stored = self.test_set.protocol
        if isinstance(stored, protocol_arrays.IdentificationProtocol) and IMAGE_SIZE in small:
            large[IMAGE_SIZE] = np.unique(stored.gallery)
            small[IMAGE_SIZE] = np.unique(stored.probes)
        return small, large


@dataclasses.dataclass(frozen=True, eq=False)
class SetResult:
    """What was measured on one set; `outcome` by its kind, `ssim` by resolution where the rules ask for it.

    `also` holds the results by the evaluation's other rules.
    """

    evaluation: Evaluation
    outcome: verification.VerificationResult | list[Measure]
    ssim: dict[int, float]
    also: tuple["SetResult", ...] = ()


def plan(data_dir: str | os.PathLike, evals: Mapping[str, Mapping[str, Any]]) -> dict[str, Evaluation]:
    """Opens every set and reads its settings, so that what is wrong is told before anything is embedded.

    Args:
      evals: {set name: {'protocol', 'resolutions', and fields of the protocol's rules to replace}}; without 'protocol'
        that of the set's kind.

    Raises:
      UserError: a missing set, or settings that it cannot follow.
    """
    planned = {}
    for name, settings in evals.items():
        test_set = face_sets.open_test_set(str(data_dir), name)
        made_by = face_sets.read_prepared(test_set.path)["arguments"].get("kind", "")
        settings = {"protocol": protocols.default_protocol(test_set.kind, made_by), "resolutions": (), **settings}
        rules = protocols.rules_of(name, test_set.kind, settings)
        resolutions = tuple(settings["resolutions"])
        if not all(isinstance(r, int) and 1 <= r <= IMAGE_SIZE for r in resolutions):
            raise UserError(f"evals.{name}.resolutions={resolutions} must be whole pixels in 1..{IMAGE_SIZE}")
        if resolutions and test_set.kind == "templates":
            raise UserError(f"evals.{name}.resolutions must be empty: templates are evaluated as they are")
        planned[name] = Evaluation(test_set, settings["protocol"], rules, resolutions)
        _named(name, _check, planned[name])
    return planned


def with_constants(
    planned: Mapping[str, Evaluation], *, backbone: str, line: scores.Line | None, means: Mapping[str, Means]
) -> dict[str, Evaluation]:
    """Puts in what the rules leave to the model: the constants of its score, and means where there are no folds.

    Args:
      backbone: of the model, for the published constants.
      line: that was fitted for the model.
      means: of its card, by fusion.

    Raises:
      UserError: there are no constants, or no mean at a resolution that is asked.
    """
    found = {}
    for name, evaluation in planned.items():
        rules = evaluation.rules
        given = scores.Line(*rules.qmag) if rules.qmag else None
        score = _named(name, scores.score_of, rules.score, given=given, fitted=line, backbone=backbone)
        rules = dataclasses.replace(rules, qmag=tuple(score.line or ()))
        evaluation = dataclasses.replace(evaluation, rules=rules)
        if rules.centering != "none" and evaluation.test_set.kind != "verification":
            held = means.get(rules.fusion, {})
            _named(name, centering.check, held, tuple(evaluation.wanted))
            evaluation = dataclasses.replace(evaluation, means=held)
        found[name] = evaluation
    return found


def sizes_of(planned: Mapping[str, Evaluation]) -> tuple[int, ...]:
    """Returns all resolutions that occur, descending, the full one first: the `sizes` of `embed.make_embedder`."""
    return tuple(sorted({IMAGE_SIZE}.union(*(evaluation.wanted for evaluation in planned.values())), reverse=True))


def needs_mirror(planned: Mapping[str, Evaluation]) -> bool:
    """Whether any set's fusion takes mirrored images: the `mirror` of `embed.make_embedder`."""
    return any(evaluation.rules.fusion != "none" for evaluation in planned.values())


def run(
    planned: Mapping[str, Evaluation],
    embedder: embed.Embedder,
    variables: Any,
    *,
    rounding: str,
    batch_size: int,
    num_threads: int,
    cache: EmbeddingCache | None,
    on_result: Callable[[str, SetResult], None] | None = None,
    gallery: embed.Gallery | None = None,
    gallery_cache: EmbeddingCache | None = None,
) -> dict[str, SetResult]:
    """Embeds and scores every set.

    Args:
      planned: from `plan`.
      embedder: from `embed.make_embedder` with `sizes_of(planned)` and, at least, `needs_mirror(planned)`; reuse it, so
        that it compiles once.
      variables: {'params', 'batch_stats'} of the backbone.
      rounding: as the embedder's; for the structural similarity.
      batch_size, num_threads: see `embed.embed_records`.
      cache: where features are looked up and kept; None for none.
      on_result: gets each set's name and result as soon as they are known.
      gallery: the model that reads what `Evaluation.wanted_by_reader` leaves to it; its embedder is made as the other.
      gallery_cache: of its features.

    Raises:
      UserError: an undecodable image, features that are not finite, a set that cannot be scored.
    """
    results, meter = {}, embed.make_similarity_meter(sizes=sizes_of(planned), rounding=rounding)
    reading = {"batch_size": batch_size, "num_threads": num_threads}
    for name, evaluation in planned.items():
        source, wanted = evaluation.test_set.source, evaluation.wanted
        small, large = evaluation.wanted_by_reader
        ask = functools.partial(_features, name, evaluation, **reading)
        features = ask(embedder, variables, wanted=small, cache=cache) if small else {}
        # Faces that turn out smaller in their pictures than they are asked go to the evaluated model.
        larger = (embedder, variables, gallery) if hasattr(source, "sizes") else gallery and gallery[:2]
        others = ask(*larger, wanted=large, cache=gallery_cache) if large else {}
        features = _joined(features, others, large)
        ssim = {}
        if getattr(evaluation.rules, "ssim", False):
            ssim = embed.mean_similarity(
                meter, source, wanted=wanted, what=f"structural similarity of {name}", **reading
            )
        with progress.waiting(f"scoring {name}"):
            also = [dataclasses.replace(evaluation, rules=rules, also=()) for rules in evaluation.also]
            others = tuple(SetResult(one, _named(name, _score, one, features), ssim) for one in also)
            results[name] = SetResult(evaluation, _named(name, _score, evaluation, features), ssim, others)
        if on_result:
            on_result(name, results[name])
    return results


def _features(
    name: str,
    evaluation: Evaluation,
    embedder: embed.Embedder,
    variables: Any,
    gallery: embed.Gallery | None = None,
    *,
    wanted: Wanted,
    cache: EmbeddingCache | None,
    **reading: Any,
) -> dict[int, np.ndarray]:
    """Looks up or makes the raw features of some records of a set, a row per record of the set."""
    num_views = 1 + needs_mirror({name: evaluation})
    features = cache.load(evaluation.test_set, wanted=wanted, num_views=num_views) if cache else {}
    missing = {r: records for r, records in wanted.items() if r not in features}
    if missing:
        work = {"wanted": missing, "what": f"embedding {name}", "gallery": gallery, **reading}
        made = _named(name, embed.embed_records, embedder, variables, evaluation.test_set.source, **work)
        if cache:
            cache.store(evaluation.test_set, made, wanted=missing)
        features |= made
    # Kept features, and those of a call for other sets as well, may have a view more than this set's fusion takes.
    return {r: table[:, :num_views] for r, table in features.items()}


def _joined(features: Mapping[int, np.ndarray], others: Mapping[int, np.ndarray], large: Wanted) -> dict:
    """Puts the rows that another model read beside those of the evaluated one, of the same resolution too."""
    joined = dict(features)
    for resolution, table in others.items():
        if resolution in joined:
            joined[resolution][large[resolution]] = table[large[resolution]]
        else:
            joined[resolution] = table
    return joined


def _check(evaluation: Evaluation) -> None:
    """Finds what cannot be scored, as far as that can be known without features."""
    stored, rules = evaluation.test_set.protocol, evaluation.rules
    if isinstance(stored, protocol_arrays.VerificationProtocol):
        verification.check(stored, rules, resolutions=evaluation.resolutions)
    elif isinstance(stored, protocol_arrays.IdentificationProtocol):
        identification.check(stored, split=rules.split, ranks=rules.ranks, fpirs=rules.fpirs)
    else:
        how = {"weights": rules.weights, "use_faceness": rules.use_faceness, "score": protocols.score_of(rules)}
        templates.check(stored, fusion=rules.fusion, **how)


def _score(
    evaluation: Evaluation, features: Mapping[int, np.ndarray]
) -> verification.VerificationResult | list[Measure]:
    stored, rules = evaluation.test_set.protocol, evaluation.rules
    if isinstance(stored, protocol_arrays.VerificationProtocol):
        own = getattr(evaluation.test_set.source, "sizes", {})
        asked = {"resolutions": evaluation.resolutions, "means": evaluation.means, "own_sizes": own}
        return verification.evaluate_verification(features, stored, rules, **asked)
    fields = {field.name: getattr(rules, field.name) for field in dataclasses.fields(rules)}
    for unknown in ("qmag", "centering", "gallery", "is_small"):
        fields.pop(unknown, None)
    fields |= {"score": protocols.score_of(rules), "means": evaluation.means}
    if isinstance(stored, protocol_arrays.IdentificationProtocol):
        return identification.evaluate_identification(features, stored, resolutions=evaluation.resolutions, **fields)
    return templates.evaluate_templates(features[IMAGE_SIZE], stored, **fields)


def _named(name: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Calls the function; what it cannot do is told with the set's name."""
    try:
        return function(*args, **kwargs)
    except (ValueError, UserError) as error:
        raise UserError(f"test set {name}: {error}") from error
