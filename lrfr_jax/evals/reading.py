"""How faces are compared with a model: which vector of an image, without which mean, by which score."""

import dataclasses

from lrfr_jax.evals.scores import COSINE


@dataclasses.dataclass(frozen=True)
class Reading:
    """Similarities of one reading can be compared with each other, and thresholds belong to one.

    Attributes:
      fusion: a row of `fusion.FUSIONS`.
      score: the name of a `scores.Score` with its constants, as `str` gives it.
      centering: one of `centering.CENTERINGS`.
    """

    fusion: str
    score: str = str(COSINE)
    centering: str = "none"

    def __str__(self) -> str:
        fields = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        return ", ".join(f"{name} {value}" for name, (value, usual) in fields.items() if value != usual)
