"""How faces are compared with a model: which vector of an image, by which score, without which mean."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Reading:
    """Similarities of one reading can be compared with each other, and thresholds belong to one.

    Attributes:
      fusion: a row of `fusion.FUSIONS`.
      score: a row of `scores.SCORES` with its constants, as the `str` of a `scores.Score` has them.
      centering: one of `centering.CENTERINGS`.
    """

    fusion: str
    score: str = "cosine"
    centering: str = "none"

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._unusual().items())

    def as_options(self) -> str:
        """The options of `evaluate` by which it measures so, as far as they are no default."""
        words = {name: value.partition("(")[0] for name, value in self._unusual().items()}
        return " ".join(f"--{name} {value}" for name, value in words.items())

    def _unusual(self) -> dict[str, str]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != usual[name]}
