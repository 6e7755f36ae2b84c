"""Evaluations in which another model, which embedded a gallery, reads it and the larger faces."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from lrfr_jax.data.protocol_arrays import IdentificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals.evaluation import Evaluation
from lrfr_jax.evals.reading import of_gallery
from lrfr_jax.image_ops import IMAGE_SIZE


def check(planned: Mapping[str, Evaluation]) -> None:
    """Finds what cannot be read by two models.

    Raises:
      UserError: a set of templates, a score that takes lengths of features, means of one model, or an image that is in
        the gallery and a small probe.
    """
    for name, one in planned.items():
        stored, rules = one.test_set.protocol, one.rules
        reason = ""
        if one.test_set.kind == "templates":
            reason = "nobody says which images of its templates are small: evaluate it with each model by itself"
        elif rules.score != "cosine":
            reason = f"the score {rules.score} compares lengths of features, which are of one model: leave it out"
        elif rules.centering != "none" and one.test_set.kind != "verification":
            reason = f"centering {rules.centering} needs means, which a card holds of one model: leave it out"
        elif isinstance(stored, IdentificationProtocol):
            both = np.intersect1d(stored.gallery, stored.probes)
            reason = f"record {both[0]} is in its gallery and a probe: prepare it again" if len(both) else ""
        if reason:
            raise UserError(f"test set {name} cannot be read by two models (--gallery_checkpoint), as {reason}")


def with_gallery(planned: Mapping[str, Evaluation], *, weights: str, from_size: int) -> dict[str, Evaluation]:
    """Lets another model read galleries and the larger faces; see `check` for what does not go with it.

    Images count as large as they are reduced to. Of a protocol whose stored images are small faces that were enlarged
    (`is_small`), the other model reads the gallery alone.

    Args:
      planned: of `plan`.
      weights: digest of the other model.
      from_size: side length in pixels; it reads faces of that size and larger ones.
    """
    found = {}
    for name, one in planned.items():
        size = IMAGE_SIZE + 1 if getattr(one.rules, "is_small", False) else from_size
        rules = dataclasses.replace(one.rules, gallery=of_gallery(weights, size))
        found[name] = dataclasses.replace(one, rules=rules, gallery_from=size)
    return found
