"""Where weights come from: an entry for each thing that was done to them, with the code that did it."""

import contextlib
import importlib.metadata
import pathlib
import subprocess
from typing import Any

PACKAGES = ("lrfr_jax", "jax", "flax", "optax")


def entry(kind: str, **facts: Any) -> dict[str, Any]:
    """Returns one step in the life of weights, as a checkpoint's `metadata['history']` holds them.

    Args:
      kind: 'import' (facts: file, sha256, layout, licence), 'training' (dataset, num_images, num_identities, licence,
        recipe: the config laid out flat, second: the facts of a second set, changes: with what it continued after which
        step), 'adaptation' (faces, digest, num_images, resolutions, batch_size, seed), 'average' (other: name of a
        second model, digest: of its weights, share: of them) or 'export' (format, names,
        parity, weights: digest of the checkpoint's, resolution: of its statistics).
      facts: plain values.
    """
    return {"kind": kind, **facts, "code": code_version()}


def code_version() -> dict[str, str]:
    """The versions of this code and of what computes, and the commit if this is a checkout of it."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    commit = _commit()
    return versions | ({"commit": commit} if commit else {})


def _commit() -> str:
    """The commit, if this is a checkout, with a mark if files were changed since; else ''."""
    here = pathlib.Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # not the checkout of somebody who installed this package in it
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
