"""How faces are compared: which vector of an image, by which score, without which mean, read by which models."""

import dataclasses

_FROM, _PIXELS = " from ", " px"
_SHOWN = 16  # letters of a digest; two models in four billion share them by chance


@dataclasses.dataclass(frozen=True)
class Reading:
    """Similarities of one reading can be compared with each other, and thresholds belong to one.

    Attributes:
      fusion: a row of `fusion.FUSIONS`.
      score: a row of `scores.SCORES` with its constants, as the `str` of a `scores.Score` has them.
      centering: one of `centering.CENTERINGS`.
      gallery: which other model read the larger faces, see `of_gallery`; '' where one model reads all.
    """

    fusion: str
    score: str = "cosine"
    centering: str = "none"
    gallery: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._unusual().items())

    def as_options(self) -> str:
        """The options of `evaluate` by which it measures so, as far as they are no default."""
        words = {name: value.partition("(")[0] for name, value in self._unusual().items()}
        digest, _, size = words.pop("gallery", "").partition(_FROM)
        words |= {"gallery_checkpoint": f"<{digest}>", "gallery_from": size.removesuffix(_PIXELS)} if digest else {}
        return " ".join(f"--{name} {value}" for name, value in words.items())

    def _unusual(self) -> dict[str, str]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != usual[name]}


def of_gallery(weights: str, from_size: int) -> str:
    """Returns `Reading.gallery`: by its digest the model that reads faces from a side length in pixels on."""
    return f"{weights[:_SHOWN]}{_FROM}{from_size}{_PIXELS}"
