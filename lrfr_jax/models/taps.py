"""Values inside a backbone by name: outputs of its stages, attention maps, the feature.

A module shows a value with `show`; who asks for none gets the network's program as it is without.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, PRNGKeyArray

from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE

FEATURE = "feature"
COLLECTION = "taps"
# A value cannot have the name of a submodule, in which other values may be.
_SUFFIX = "_tap"

Tap = Float[Array, "batch ..."] | tuple[Float[Array, "batch ..."], ...]


def show(module: nn.Module, name: str, value: Float[Array, "batch ..."]) -> None:
    """Lets a value of a module be read by name; one name may stand for several values, of one module or of many."""
    if not module.is_initializing():
        module.sow(COLLECTION, f"{name}{_SUFFIX}", value)


def apply(
    backbone: nn.Module,
    variables: Mapping[str, Any],
    images: Float[Array, "batch height width 3"],
    *,
    taps: Sequence[str],
    train: bool,
    rngs: Mapping[str, PRNGKeyArray] | None = None,
    mutable: Sequence[str] = (),
) -> tuple[dict[str, Tap], dict[str, Any]]:
    """Embeds images and returns what is asked for by name.

    Args:
      backbone, variables, images, train, rngs: as of the backbone's own `apply`.
      taps: names out of `names_of`.
      mutable: collections that the backbone may change, such as 'batch_stats'.

    Returns:
      ({tap: its value, or all values of that name in the order of the blocks}, the changed collections).

    Raises:
      UserError: a tap that the backbone does not have.
    """
    wanted = [COLLECTION] if set(taps) - {FEATURE} else []
    settings = {"train": train, "rngs": rngs, "mutable": [*mutable, *wanted]}
    feature, updated = backbone.apply(variables, images, **settings)
    updated = dict(updated)
    found = _by_name(updated.pop(COLLECTION, {})) | {FEATURE: feature}
    for name in taps:
        if name not in found:
            raise UserError(f"the network has no tap {name!r}: choose one of {', '.join(found)}")
    return {name: found[name] for name in taps}, updated


@functools.lru_cache(maxsize=32)
def names_of(backbone: nn.Module) -> tuple[str, ...]:
    """The taps of a backbone, the feature last; it is traced for that, not run."""
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)

    def shown(rng: PRNGKeyArray, images: Float[Array, "batch height width 3"]) -> dict[str, Any]:
        variables = backbone.init(rng, images, train=False)
        return backbone.apply(variables, images, train=False, mutable=[COLLECTION])[1]

    shapes = jax.eval_shape(shown, jax.eval_shape(jax.random.key, 0), images)
    return (*_by_name(shapes.get(COLLECTION, {})), FEATURE)


def _by_name(collection: Mapping[str, Any]) -> dict[str, Any]:
    flat = traverse_util.flatten_dict(collection)
    values: dict[str, tuple] = {}
    # Not by the alphabet, in which block10 comes before block2.
    for path in sorted(flat, key=lambda path: [_numbered(part) for part in path]):
        name = path[-1].removesuffix(_SUFFIX)
        values[name] = (*values.get(name, ()), *flat[path])
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _numbered(name: str) -> list[tuple[str, int]]:
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+|^)(\d*)", name)]
