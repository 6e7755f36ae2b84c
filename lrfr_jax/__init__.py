"""Train one face embedder that works from 7 px to 112 px."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Gives `lrfr_jax.Embedder`, which is imported when it is asked for: a preparation needs no jax."""
    if name == "Embedder":
        from lrfr_jax.trained.embedder import Embedder

        return Embedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
