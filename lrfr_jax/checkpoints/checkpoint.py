"""Checkpoints: three items in one atomic orbax step.

`backbone` (parameters and BatchNorm statistics: all that evaluation needs), `training` (classifier, optimizer state)
and `metadata` (how to build the model, which data the steps count). Random numbers come from seed and step, so nothing
random is stored.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from lrfr_jax.checkpoints import staged
from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.terminal import progress

FOLDER = "checkpoints"
# What `metadata` must say, so that a model can be built and asked.
METADATA = {"step", "model", "degradation_rounding"}


def create_manager(workdir: str | os.PathLike, *, keep: int) -> ocp.CheckpointManager:
    """Opens `workdir/checkpoints`, of which the newest `keep` steps stay, and removes what a kill cut off there.

    Raises:
      UserError: in s3://, several processes, or steps that cannot be fetched.
    """
    folder = paths.absolute(workdir) / FOLDER
    if str(folder).startswith("s3://"):
        return staged.StagedManager(folder, keep=keep)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(folder, options=options)


def folder_of(manager: ocp.CheckpointManager) -> paths.AnyPath:
    """Where the steps of a manager end up."""
    return getattr(manager, "target", paths.of(manager.directory))


def save(manager: ocp.CheckpointManager, step: int, *, backbone: Any, training: Any, metadata: dict) -> None:
    """Starts saving; the arrays may be donated as soon as this returns. A step saved before is left as it is.

    Raises:
      UserError: it, or the step before, cannot be written.
    """
    if step in manager.all_steps():
        return
    items = ocp.args.Composite(
        backbone=ocp.args.StandardSave(backbone),
        training=ocp.args.StandardSave(training),
        metadata=ocp.args.JsonSave(metadata),
    )
    with _writing(manager):
        manager.save(step, args=items)


def wait(manager: ocp.CheckpointManager) -> None:
    """Returns when the step that is being saved is whole; `UserError` if it cannot be written."""
    with _writing(manager), progress.waiting("writing a checkpoint"):
        manager.wait_until_finished()


def close(manager: ocp.CheckpointManager) -> None:
    """Waits as `wait` does, and ends the manager."""
    with _writing(manager), progress.waiting("writing the last checkpoint"):
        manager.close()


@contextlib.contextmanager
def _writing(manager: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # of the system, of orbax's threads, of tensorstore
        if jax.process_count() > 1:  # another one may have ended, which `processes.ended_together` tells
            raise
        raise UserError(
            f"a checkpoint cannot be written into {folder_of(manager)} ({reason_of(error)}): make room there or mend "
            "what it says; the same command continues from the newest whole one"
        ) from error


def steps_of(workdir: str | os.PathLike) -> list[int]:
    """The steps of a run that are saved whole, ascending."""
    folder = paths.of(workdir) / FOLDER
    if paths.is_remote(folder):
        return staged.committed(folder)
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []


def newest(workdir: str | os.PathLike) -> paths.AnyPath:
    """Returns the folder of the newest checkpoint of a run; `UserError` if it has none."""
    steps = steps_of(workdir)
    if not steps:
        raise UserError(f"{workdir} holds no checkpoint: `python -m lrfr_jax.main --workdir {workdir} ...` makes one")
    return paths.of(workdir) / FOLDER / str(steps[-1])


def save_backbone(path: str | os.PathLike, variables: Any, metadata: dict) -> None:
    """Writes a checkpoint of a backbone alone, whole or not at all, as `load_backbone` reads it.

    Args:
      path: the folder to make.
      variables: {'params': ..., 'batch_stats': ...}.
      metadata: at least what `METADATA` names.

    Raises:
      UserError: the folder is there already.
    """
    path = paths.local(path, "the checkpoint").resolve()
    if path.exists():
        raise UserError(f"{path} is there already: name another folder, or remove it")
    # Arrays on devices: what orbax writes then is read back by `load_backbone` without a word about numpy.
    items = ocp.args.Composite(
        backbone=ocp.args.StandardSave(jax.tree.map(jax.numpy.asarray, variables)),
        metadata=ocp.args.JsonSave(metadata),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=items)


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Keeps back the warning that one item of a checkpoint, read alone, has no metadata file of its own."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        yield
    finally:
        absl_logging.set_verbosity(before)


def load_backbone(path: str | os.PathLike) -> tuple[Any, dict]:
    """Reads what evaluation needs from one checkpoint folder (`W/checkpoints/<step>`), onto the first local device.

    Returns:
      ({'params': ..., 'batch_stats': ...}, metadata: `step`, `model` (arguments of `models.create_backbone`), ...).

    Raises:
      UserError: the folder is no checkpoint, is cut off, or does not say what model it holds.
    """
    path, metadata = paths.absolute(path), load_metadata(path)
    try:
        with paths.at_hand(path, "backbone", "metadata") as folder:
            return _read_backbone(folder), metadata
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: paths.AnyPath, error: Exception) -> UserError:
    return UserError(f"checkpoint {path} cannot be read ({reason_of(error)}): use an older step or copy it again")


def load_metadata(path: str | os.PathLike) -> dict:
    """Reads what one checkpoint folder says of itself, without its arrays; returns and errors as of `load_backbone`."""
    path = paths.absolute(path)
    if not (path / "backbone").is_dir() or not (path / "metadata" / "metadata").is_file():
        raise UserError(f"{path} is no checkpoint: name W/checkpoints/<step>, or what `pretrained` made")
    try:
        metadata = json.loads((path / "metadata" / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    missing = sorted(METADATA - metadata.keys())
    if missing:
        raise UserError(
            f"the metadata of checkpoint {path} lacks {', '.join(missing)}: `lrfr_jax.main` did not save it"
        )
    if "input" not in metadata["model"]:
        raise UserError(
            f"checkpoint {path} does not say how its network wants images (model.input), as an older version saved it: "
            "train or import it again"
        )
    return metadata


def _read_backbone(folder: pathlib.Path) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _quiet_orbax(), ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(folder / "backbone").item_metadata.tree
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), stored)
        return checkpointer.restore(folder / "backbone", target)


def model_digest(variables: Any, description: Mapping[str, Any]) -> str:
    """Digest of the weights and of what else decides about features: the model's arguments and the rounding."""
    description = dict(description)
    if description.get("input", {}).get("size") == IMAGE_SIZE:
        # Not said before there was a choice; the digests of then stay those of now.
        description["input"] = {name: value for name, value in description["input"].items() if name != "size"}
    digest = hashlib.sha256(repr(sorted(description.items())).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def load_training(path: str | os.PathLike, name: str) -> Any:
    """Reads 'classifier' or 'parts' of the training that made a checkpoint, onto the first local device.

    Returns:
      Its arrays; None if the checkpoint holds none, as one without a training.

    Raises:
      UserError: they cannot be read.
    """
    folder = paths.local(path, "the checkpoint").resolve() / "training"
    if not folder.is_dir():
        return None
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        with _quiet_orbax(), ocp.PyTreeCheckpointer() as checkpointer:
            stored = checkpointer.metadata(folder).item_metadata.tree.get(name)
            if stored is None:
                return None
            arrays = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), stored)
            # The rest, the optimizer's state, is several times as large and stays on the disk.
            how = ocp.checkpoint_utils.construct_restore_args({name: arrays})
            args = ocp.args.PyTreeRestore(item={name: arrays}, restore_args=how, partial_restore=True)
            return checkpointer.restore(folder, args=args)[name]
    except Exception as error:
        raise UserError(f"the {name} of {folder.parent} cannot be read ({reason_of(error)}): copy it again") from error


def load_class_centers(path: str | os.PathLike) -> jax.Array | None:
    """Reads the classifier's centers [identities, dim] from one checkpoint folder; None if it holds no classifier.

    Raises:
      UserError: they cannot be read.
    """
    found = load_training(path, "classifier")
    return None if found is None else found["class_centers"][: load_metadata(path)["data"]["num_identities"]]
