"""Published evaluations by name: how flips are fused, what is compared, where thresholds come from.

They differ by tenths of a point, so every number is reported with the name of its row here; docs/protocols.md explains
the rows. A setting of the same name in a config or on the command line replaces a field.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics
from lrfr_jax.evals.centering import CENTERINGS
from lrfr_jax.evals.fusion import FUSIONS, unit
from lrfr_jax.evals.reading import Reading
from lrfr_jax.evals.scores import SCORES, Line, Score
from lrfr_jax.image_ops import IMAGE_SIZE


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreRules:
    """Scores of pairs and the thresholds on them.

    Attributes:
      score: (vectors, vectors) of pairs -> scores, higher = more similar.
      cosines: scores -> cosine similarities, the axis that figures use.
      thresholds: grid on the score axis; a pair is accepted if score > threshold.
      ties: which of equally good thresholds, see `metrics.kfold_accuracy`.
    """

    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    cosines: Callable[[np.ndarray], np.ndarray]
    thresholds: Float[np.ndarray, " grid"]
    ties: str


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationRules:
    """1:1: pairs in folds. `comparisons` and `size_lists` say what is compared beside full resolution, see
    `verification.evaluate_verification`; TAR is measured at `fars`; `ssim` adds how much the reduced images differ.

    `scoring` is for cosines; `score`, `qmag`, `centering` and `gallery` are those of every kind, see `reading_of`.
    `is_small`: the images as they are stored are small faces that were enlarged (of a gallery its probes)."""

    scoring: ScoreRules
    fusion: str
    fars: tuple[float, ...]
    comparisons: tuple[str, ...] = ("hr_lr", "lr_lr")
    size_lists: tuple[str, ...] = ()
    ssim: bool = False
    is_small: bool = False
    score: str = "cosine"
    qmag: tuple[float, ...] = ()
    centering: str = "none"
    gallery: str = ""


@dataclasses.dataclass(frozen=True)
class IdentificationRules:
    """1:N: see `identification.evaluate_identification`."""

    fusion: str
    split: str
    ranks: tuple[int, ...]
    fpirs: tuple[float, ...]
    mean_average_precision: bool
    is_small: bool = False
    score: str = "cosine"
    qmag: tuple[float, ...] = ()
    centering: str = "none"
    gallery: str = ""


@dataclasses.dataclass(frozen=True)
class TemplateRules:
    """Sets of images: see `templates.evaluate_templates`."""

    fusion: str
    weights: str
    use_faceness: bool
    fars: tuple[float, ...]
    ranks: tuple[int, ...]
    fpirs: tuple[float, ...]
    score: str = "cosine"
    qmag: tuple[float, ...] = ()
    centering: str = "none"
    gallery: str = ""


Rules = VerificationRules | IdentificationRules | TemplateRules
COMPARISONS = ("hr_lr", "lr_lr", "matrix")
# Of two faces none, the second or both are reduced.
MODE_TITLES = {"hr_hr": "HR-HR", "hr_lr": "HR-LR", "lr_lr": "LR-LR"}
Measured = TypeVar("Measured")


def negative_squared_distance(
    x: Float[np.ndarray, "pairs dim"], y: Float[np.ndarray, "pairs dim"]
) -> Float[np.ndarray, " pairs"]:
    """Scores pairs by 2 cos - 2, the negative squared distance of the vectors at unit length."""
    return metrics.negative_squared_l2(unit(x), unit(y))


def negative_cosine_distance(
    x: Float[np.ndarray, "pairs dim"], y: Float[np.ndarray, "pairs dim"]
) -> Float[np.ndarray, " pairs"]:
    """Scores pairs by cos - 1, computed as half the squared distance of unit vectors, as scikit-learn does."""
    return negative_squared_distance(x, y) / 2


_FARS = (0.1, 0.01, 0.001)
# Grid of recognition/arcface_torch/eval/verification.py.
_SQUARED_L2 = ScoreRules(negative_squared_distance, lambda scores: 1 + scores / 2, -np.arange(0, 4, 0.01), "strictest")
# Grid and epsilon of LRFR's released src/lfw_eval.py.
_RELEASED = ScoreRules(
    functools.partial(metrics.cosine, epsilon=1e-5), lambda scores: scores, np.arange(-1, 1, 0.005), "strictest"
)
# Grid of evaluate.py of the XQLFW release, which LRFR's xqlfw_eval.py repeats.
_XQLFW = ScoreRules(negative_cosine_distance, lambda scores: 1 + scores, -np.arange(0, 2, 0.001), "strictest")
_IJB_FARS = (0.1, 0.01, 0.001, 0.0001, 0.00001, 0.000001)

PROTOCOLS: dict[str, Rules] = {
    "insightface": VerificationRules(_SQUARED_L2, "sum", _FARS),
    "released": VerificationRules(_RELEASED, "concat", _FARS),
    "xqlfw": VerificationRules(_XQLFW, "concat", _FARS),
    # The rates of the makers' verification benchmark, which have no folds of their own.
    "survface_verification": VerificationRules(_SQUARED_L2, "sum", (0.3, *_FARS), is_small=True),
    # Mean over ten draws of 80 test identities (Ling et al. 2022 use one, which is not published); no flip, as there.
    "scface": IdentificationRules("none", "random_80", (1,), (), False, is_small=True),
    "tinyface": IdentificationRules("sum", "all", (1, 5, 10, 20), (), True, is_small=True),
    "survface": IdentificationRules("sum", "all", (1, 10, 20), (0.3, 0.2, 0.1, 0.01), False, is_small=True),
    # Nobody's published rules; rank 1 only, as a gallery of the user's may have any size.
    "gallery": IdentificationRules("sum", "all", (1,), (), False),
    "ijb": TemplateRules("sum", "norm", True, _IJB_FARS, (1, 5, 10), (0.1, 0.01)),
}
# Fields of rules that no setting replaces: facts of the published set, and what an evaluation fills in.
FIXED = ("scoring", "is_small", "gallery")
KIND_RULES = {
    "verification": VerificationRules,
    "identification": IdentificationRules,
    "templates": TemplateRules,
}


def in_modes(
    comparisons: Iterable[Measured], *, name: Callable[[Measured], tuple[str, int, int]]
) -> dict[tuple[str, int], Measured]:
    """Finds the comparisons of HR-HR, HR-LR and LR-LR by (mode, resolution), those of a matrix among them.

    Its cells (112, r) and (r, r) reduce what HR-LR and LR-LR reduce, and count where these were not measured by
    themselves. A cell (r, 112) reduces the other image of each pair, which HR-LR of these protocols does not.

    Args:
      comparisons: of one set.
      name: comparison -> (mode, resolution of the first images, of the second ones).
    """
    found: dict[tuple[str, int], Measured] = {}
    for comparison in comparisons:
        mode, first, second = name(comparison)
        if mode in MODE_TITLES:
            found[mode, second] = comparison
        elif mode == "matrix" and first in (IMAGE_SIZE, second):
            reduced = "hr_hr" if second == IMAGE_SIZE else "lr_lr" if first == second else "hr_lr"
            found.setdefault((reduced, second), comparison)
    return found


def default_protocol(kind: str, made_by: str) -> str:
    """The protocol of a set that `prepare MADE_BY` made, where none is named: its own, else that of its kind."""
    for name in (made_by, f"{made_by}_{kind}"):  # a command may make sets of two kinds
        if name in PROTOCOLS and isinstance(PROTOCOLS[name], KIND_RULES[kind]):
            return name
    return next(name for name, rules in PROTOCOLS.items() if isinstance(rules, KIND_RULES[kind]))


def score_of(rules: Rules) -> Score:
    """The score that rules name, with its constants where they hold them: a row of `scores.SCORES`."""
    return Score(rules.score, Line(*rules.qmag) if rules.qmag else None)


def reading_of(rules: Rules) -> Reading:
    """What the similarities of rules can be compared with."""
    return Reading(rules.fusion, str(score_of(rules)), rules.centering, rules.gallery)


def settings_of(kind: str) -> set[str]:
    """The keys that the settings of a set of this kind may have."""
    fields = {field.name for field in dataclasses.fields(KIND_RULES[kind])} - {*FIXED}
    return fields | {"protocol", "resolutions"}


def rules_of(name: str, kind: str, settings: Mapping[str, Any]) -> Rules:
    """Returns the rules that the settings of set `name` name, with the fields that they replace.

    Raises:
      UserError: an unknown key, protocol, fusion or comparison, or a protocol for sets of another kind.
    """
    unknown = sorted(set(settings) - settings_of(kind))
    if unknown:
        known = ", ".join(sorted(settings_of(kind)))
        raise UserError(f"evals.{name}.{unknown[0]} is no setting of a {kind} set: it takes {known}")
    protocol = settings["protocol"]
    fitting = [key for key, rules in PROTOCOLS.items() if isinstance(rules, KIND_RULES[kind])]
    if protocol not in fitting:
        raise UserError(
            f"evals.{name}.protocol={protocol!r} is no protocol for a {kind} set: choose one of {', '.join(fitting)}"
        )
    changes = {key: value for key, value in settings.items() if key not in ("protocol", "resolutions")}
    changes = {key: tuple(value) if isinstance(value, list | tuple) else value for key, value in changes.items()}
    changes |= {key: tuple(map(float, changes[key])) for key in ("fars", "fpirs", "qmag") if key in changes}
    rules = dataclasses.replace(PROTOCOLS[protocol], **changes)
    for key, known in (("fusion", FUSIONS), ("score", SCORES), ("centering", CENTERINGS)):
        _check_choice(name, key, (getattr(rules, key),), known)
    if len(rules.qmag) not in (0, 2) or (rules.qmag and rules.score == "cosine"):
        raise UserError(f"evals.{name}.qmag={rules.qmag} must be alpha,beta of the score 'qmag': set both")
    _check_choice(name, "comparisons", getattr(rules, "comparisons", ()), COMPARISONS)
    for key in ("fars", "fpirs"):
        if not all(0 < rate <= 1 for rate in getattr(rules, key, ())):
            raise UserError(f"evals.{name}.{key}={getattr(rules, key)} must be rates in (0, 1], not percent")
    return rules


def description(protocol: str, rules: Rules) -> str:
    """Names a protocol with every field that differs from the published one, for reports."""
    published = PROTOCOLS[protocol]
    changed = [
        f"{field.name}={getattr(rules, field.name)}"
        for field in dataclasses.fields(rules)
        if field.name not in ("scoring", "fars", "fpirs", "ranks", "comparisons", "size_lists", "ssim")
        and getattr(rules, field.name) != getattr(published, field.name)
    ]
    return ", ".join([protocol, *changed])


def _check_choice(name: str, key: str, values: tuple, known) -> None:
    for value in values:
        if value not in known:
            raise UserError(f"evals.{name}.{key}={value!r} is unknown: choose one of {', '.join(known)}")
