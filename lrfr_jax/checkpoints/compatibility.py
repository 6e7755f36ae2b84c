"""Which models' embeddings may be compared: those of the same weights, and of weights that were trained to fit them.

A model that was trained to fit another one's embeddings says so in its checkpoint's metadata and in its card:
`compatible_with = {'digest', 'name', 'resolution'}`. Digests are those of `checkpoint.model_digest`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lrfr_jax.errors import UserError
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE

KEY = "compatible_with"
SHOWN = 16  # letters of a digest in a sentence
# Side lengths from which on no face is the other model's.
NEVER = IMAGE_SIZE + 1


def entry(path: str | os.PathLike, *, digest: str, resolution: int) -> dict[str, Any]:
    """Returns `compatible_with` of the checkpoint of a model that was trained to fit another one's embeddings.

    Args:
      path: of the other model, whose last parts become the name that people read.
      digest: of its weights, `checkpoint.model_digest` of its variables and its metadata's `model`.
      resolution: side length in pixels from which on a face is the other model's to read, in 1..112: 112 keeps full
        resolution for it alone.

    Raises:
      UserError: no such resolution.
    """
    check_resolution(resolution, "the resolution of a model that fits another one", most=IMAGE_SIZE)
    parts = [part for part in paths.of(path).parts if part not in ("/", "checkpoints")]
    return {"digest": digest, "name": "/".join(parts[-2:]), "resolution": resolution}


def check_resolution(resolution: int, name: str, *, most: int) -> None:
    """Raises `UserError` for a side length that is not in 1..most."""
    if not 1 <= resolution <= most:
        raise UserError(f"{name} is {resolution}: it must be whole pixels in 1..{most}")


def of_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `compatible_with` of a checkpoint or card; {} if the model fits nothing but itself.

    Raises:
      UserError: it is not of the form that `entry` gives.
    """
    held = metadata.get(KEY) or {}
    if held and not (
        held.keys() >= {"digest", "name", "resolution"}
        and isinstance(held["resolution"], int)
        and 1 <= held["resolution"] <= IMAGE_SIZE
    ):
        raise UserError(
            f"the model's metadata has {KEY}={held!r}, which must name digest, name and resolution (1..{IMAGE_SIZE}): "
            "train or export it again"
        )
    return dict(held)


def digests_of(weights: str, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the digests of all weights whose embeddings those of a model can be compared with, its own first.

    Beside its own these are the digest of the checkpoint that an exported file was made of, and of the model that it
    was trained to fit.
    """
    last = next(iter(reversed(metadata.get("history") or [])), {})
    source = last.get("weights", "") if last.get("kind") == "export" else ""
    return tuple(filter(None, dict.fromkeys((weights, source, of_metadata(metadata).get("digest", "")))))


def common(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Returns what two results of `digests_of` share: two models fit each other if that is anything."""
    return tuple(digest for digest in first if digest in second)


def check(
    first: str | os.PathLike, first_digests: Sequence[str], second: str | os.PathLike, second_digests: Sequence[str]
) -> None:
    """Raises `UserError` unless two models fit each other, naming their files and digests.

    Args:
      first, second: where they lie.
      first_digests, second_digests: of `digests_of`.
    """
    if common(first_digests, second_digests):
        return
    sides = (f"{path} {in_words(digests)}" for path, digests in ((first, first_digests), (second, second_digests)))
    raise UserError(
        f"embeddings of {' and of '.join(sides)} cannot be compared: name the model that one of them was trained to "
        "fit, or embed both sides with one model"
    )


def in_words(digests: Sequence[str]) -> str:
    """Tells a result of `digests_of`: `(weights 1a2b..., which fit 3c4d...)`."""
    own, *others = (digest[:SHOWN] for digest in digests)
    return f"(weights {own}, which fit {' and '.join(others) if others else 'no others'})"
