"""Features by name: what a network gives by its taps, and what parts and a classifier make of that."""

import dataclasses
from collections.abc import Iterable, Mapping

from jaxtyping import Array, Int, PyTree

from lrfr_jax.models import taps as backbone_taps
from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import Head
from lrfr_jax.objective.parts import Part

LOGITS = "logits"


@dataclasses.dataclass(frozen=True, eq=False)
class Names:
    """What can be read of a network, student or teacher.

    Attributes:
      parts: {name: part}, each with parameters under its name.
      classifier: whose margined logits are the tap 'logits', with `head`; None where there is none.
      head: see `classifier`.
      classified: the tap that the classifier reads.
    """

    parts: Mapping[str, Part]
    classifier: Classifier | None
    head: Head | None
    classified: str = backbone_taps.FEATURE

    def source(self, tap: str) -> str:
        """The tap of the backbone behind a name."""
        while tap in self.parts or tap == LOGITS:
            tap = self.classified if tap == LOGITS else self.parts[tap].of
        return tap

    def used_params(self, tap: str, params: Mapping[str, PyTree]) -> dict[str, PyTree]:
        """The parameters behind a name, without the backbone's: the classifier's, and those of parts."""
        used: dict[str, PyTree] = {}
        while tap in self.parts or tap == LOGITS:
            if tap == LOGITS:
                used, tap = used | {"classifier": params["classifier"]}, self.classified
            else:
                of_parts = used.get("parts", {}) | {tap: params["parts"][tap]}
                used, tap = used | {"parts": of_parts}, self.parts[tap].of
        return used

    def reads_parts(self, taps: Iterable[str]) -> bool:
        """Whether any part stands behind these names."""
        return any(tap in self.parts or (tap == LOGITS and self.classified in self.parts) for tap in taps)

    def value(
        self,
        view: str,
        tap: str,
        features: Mapping[tuple[str, str], PyTree],
        params: Mapping[str, PyTree],
        labels: Mapping[str, Int[Array, " batch"]],
    ) -> PyTree:
        """The value of a name for a view.

        Args:
          features: {(view, tap of the backbone): value}.
          params: at least what `used_params` names.
          labels: {view: the identity of each image}.

        Raises:
          ValueError: logits that cannot be had, see `classifier.margined_logits`.
        """
        if tap == LOGITS:
            read = self.value(view, self.classified, features, params, labels)
            how = {"classifier": self.classifier, "head": self.head}
            return classifiers.margined_logits(read, params["classifier"], labels[view], **how)
        if tap in self.parts:
            part = self.parts[tap]
            return part.apply(params["parts"][tap], self.value(view, part.of, features, params, labels))
        return features[view, tap]
