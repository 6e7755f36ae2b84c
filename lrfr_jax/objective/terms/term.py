"""A term: what a loss makes of features beside, or instead of, their classification."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array, Float, Int

Number = float | int
# Of a batch: embeddings [b, dim], maps [b, h, w, c], or the maps of all blocks.
Feature = Float[Array, "..."] | tuple[Float[Array, "..."], ...]
Features = tuple[Feature, ...]
# One array for each feature.
Labels = tuple[Int[Array, "..."], ...]
State = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    r"""One term of a loss, with all its numbers bound.

    .. math:: L_{term} = w \; \mathrm{value}(\text{features}, \text{labels}, \text{state})

    The features are those of the whole batch of all devices; who owns several lets no more than embeddings travel
    (`pairwise.everywhere`). Labels are of one space: two features share an identity where their labels are equal, so
    who reads batches from two sets adds the number of the first one's identities to the labels of the second.

    Attributes:
      value: (features, labels, state) -> one number. Features and labels are tuples in the order of a config's `of`.
      num_features: how many features `value` takes: so many, or (at least, at most).
      by: their number is a multiple of this: 2 where student and teacher alternate.
      is_aligned: whether row i of every feature is of the same image, so that all must come from one source. Where it
        is not, features are pooled, or compared as groups, and may be batches of any length.
      first_state: (number of identities, dim) -> {name: array}, both of the first feature; None without a state.
      update: (state, features, labels) -> the next state, which `value` of the same step reads. It has no gradient.
    """

    value: Callable
    num_features: int | tuple[int, int] = 2
    by: int = 1
    is_aligned: bool = True
    first_state: Callable | None = None
    update: Callable | None = None

    def takes(self, number: int) -> bool:
        """Whether `value` takes so many features."""
        least, most = (self.num_features,) * 2 if isinstance(self.num_features, int) else self.num_features
        return least <= number <= most and number % self.by == 0

    def wanted(self) -> str:
        """Says how many features `value` takes, for a sentence."""
        if isinstance(self.num_features, int):
            return f"{self.num_features}"
        least, most = self.num_features
        said = f"{least} or more" if most >= MANY else f"{least} to {most}"
        return said if self.by == 1 else f"{said}, in groups of {self.by}"


# No bound for the number of features.
MANY = 1000

# What the weight of a term counts in: the paper's lambda, or shares of the gradient of the classification.
WEIGHT_UNITS = ("lambda", "gradient_share")


@dataclasses.dataclass(frozen=True)
class NamedTerm:
    """A term of a run's loss.

    Attributes:
      name: under which its value is logged.
      term: the formula.
      of: the features, each as (who, view, tap).
      weight: 0 or more.
      weight_unit: one of `WEIGHT_UNITS`.
    """

    name: str
    term: Term
    of: tuple[tuple[str, str, str], ...]
    weight: float | int
    weight_unit: str
