"""A teacher: the frozen network of another checkpoint, of which the terms of a loss read features by name."""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int, PyTree

from lrfr_jax.models import taps as backbone_taps
from lrfr_jax.objective import embedding
from lrfr_jax.objective.named_features import Names

TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """What is read of a frozen network, whose variables are handed to the step and are no part of its state.

    Attributes:
      backbone: its network.
      names: what can be read of it.
      read: {view: taps, parts or logits} that the loss names.
      is_kept: whether its features come with the batch, made beforehand, and the network is not run.
    """

    backbone: nn.Module
    names: Names
    read: Mapping[str, tuple[str, ...]]
    is_kept: bool = False

    def features(
        self,
        variables: Mapping[str, PyTree],
        views: Mapping[str, Float[Array, "_ height width channels"]],
        labels: Mapping[str, Int[Array, " batch"]],
        *,
        parts: int,
    ) -> dict[tuple[str, str], PyTree]:
        """Embeds the views as in evaluation; returns what is read, {(view, name): value}, as constants.

        Args:
          variables: 'backbone' {'params', 'batch_stats'}, and 'parts' and 'classifier' as far as they are read.
          views: dressed for the student; each network has its own input convention.
          labels: {view: the identity of each image}, for logits.
          parts: see `embedding.embed_views`.

        Raises:
          UserError: a tap that it does not have.
        """
        of_backbone = variables["backbone"]
        taps = {view: tuple(dict.fromkeys(map(self.names.source, names))) for view, names in self.read.items()}
        how = {"backbone": self.backbone, "batch_norm": "frozen", "parts": parts}
        params, stats = of_backbone["params"], of_backbone.get("batch_stats", {})
        features, _ = embedding.embed_views(params, stats, views, jax.random.key(0), taps=taps, **how)
        found = {
            (view, name): self.names.value(view, name, features, variables, labels)
            for view, names in self.read.items()
            for name in names
        }
        return jax.lax.stop_gradient(found)

    def is_feature_of(self, view: str) -> bool:
        """Whether nothing but the feature of one view is read, which can be kept for each record."""
        return dict(self.read) == {view: (backbone_taps.FEATURE,)}
