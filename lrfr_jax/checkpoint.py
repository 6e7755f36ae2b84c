"""Checkpoints: three items in one atomic orbax step.

`backbone` (parameters and BatchNorm statistics: all that evaluation needs), `training` (classifier, optimizer state)
and `metadata` (how to build the model, which data the steps count). Random numbers come from seed and step, so nothing
random is stored.
"""

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from lrfr_jax import paths, staged_checkpoints
from lrfr_jax.errors import UserError, reason_of

logger = logging.getLogger("lrfr_jax")

FOLDER = "checkpoints"
# What `metadata` must say, so that a model can be built and asked.
METADATA = {"step", "model", "degradation_rounding"}
UNREADABLE_FOLDER = "unreadable_checkpoints"


def create_manager(workdir: str | os.PathLike, *, keep: int) -> ocp.CheckpointManager:
    """Opens `workdir/checkpoints`, of which the newest `keep` steps stay, and removes what a kill cut off there.

    Raises:
      UserError: in s3://, several processes, or steps that cannot be fetched.
    """
    folder = paths.absolute(workdir) / FOLDER
    if str(folder).startswith("s3://"):
        return staged_checkpoints.StagedManager(folder, keep=keep)
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
    with _writing(manager):
        manager.wait_until_finished()


def close(manager: ocp.CheckpointManager) -> None:
    """Waits as `wait` does, and ends the manager."""
    with _writing(manager):
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


def restore_newest(
    manager: ocp.CheckpointManager, *, backbone: Any, training: Any, check: Callable[[dict], None]
) -> tuple[int, Any, Any] | None:
    """Restores the newest checkpoint that can be read; None if the folder has none at all.

    One that cannot be read (cut off by a full disk) is moved to `unreadable_checkpoints` and the one before is used. If
    none can be read they stay where they are, as the disk may be at fault, and so the run cannot begin anew over them.

    Args:
      manager: from `create_manager`.
      backbone: arrays of the shapes, types and shardings wanted.
      training: the same for the second item.
      check: gets the metadata before any array is read; raises `UserError` if the checkpoint belongs to another run.

    Returns:
      (step, backbone, training).

    Raises:
      UserError: there are checkpoints, but none is readable, or `check` raised it; of several processes, which have to
        take the same one, the newest cannot be read by one.
    """
    backbone, training = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (backbone, training)
    )
    unreadable: dict[int, Exception] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            check(manager.restore(step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore())).metadata)
            # Not strict: the class centers end in rows of zeros, as many as the number of shards asks for.
            items = ocp.args.Composite(
                backbone=ocp.args.StandardRestore(backbone),
                training=ocp.args.StandardRestore(training, strict=False),
            )
            restored = manager.restore(step, args=items)
        except UserError:
            raise
        except Exception as error:
            if jax.process_count() > 1:
                raise UserError(
                    f"checkpoint {step} of {folder_of(manager)} cannot be read by process {jax.process_index()} "
                    f"({reason_of(error)}): mend that, or move it away to continue from the one before"
                ) from error
            unreadable[step] = error
            continue
        for other, error in unreadable.items():
            _set_aside(manager, other, error)
        return step, restored.backbone, restored.training
    if unreadable:
        newest_error = next(iter(unreadable.values()))
        raise UserError(
            f"none of the checkpoints {list(unreadable)} of {folder_of(manager)} can be read "
            f"({reason_of(newest_error)}): copy them again, or start with a new --workdir"
        )
    return None


def _set_aside(manager: ocp.CheckpointManager, step: int, error: Exception) -> None:
    reason = reason_of(error)
    logger.warning("checkpoint %d cannot be read (%s): it is set aside and the one before is used", step, reason)
    if jax.process_index() == 0:
        folder = folder_of(manager)
        targets = (folder.parent / UNREADABLE_FOLDER / f"{step}{end}" for end in ("", *map("_{}".format, range(2, 99))))
        target = next(target for target in targets if not target.exists())
        if paths.is_remote(folder):
            paths.move(folder / str(step), target)
            if not paths.is_remote(manager.directory):  # it is staged
                shutil.rmtree(manager.directory / str(step))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.move(folder / str(step), target)
    manager.reload()


def steps_of(workdir: str | os.PathLike) -> list[int]:
    """The steps of a run that are saved whole, ascending."""
    folder = paths.of(workdir) / FOLDER
    if paths.is_remote(folder):
        return staged_checkpoints.committed(folder)
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
    digest = hashlib.sha256(repr(sorted(description.items())).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def load_class_centers(path: str | os.PathLike) -> jax.Array | None:
    """Reads the classifier's centers [identities, dim] from one checkpoint folder; None if it holds no classifier.

    Raises:
      UserError: they cannot be read.
    """
    folder = paths.local(path, "the checkpoint").resolve() / "training"
    if not folder.is_dir():
        return None
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        with _quiet_orbax(), ocp.PyTreeCheckpointer() as checkpointer:
            stored = checkpointer.metadata(folder).item_metadata.tree["classifier"]["class_centers"]
            centers = jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=device)
            wanted = {"classifier": {"class_centers": centers}}
            # The rest, the optimizer's state, is several times as large and stays on the disk.
            how = ocp.checkpoint_utils.construct_restore_args(wanted)
            args = ocp.args.PyTreeRestore(item=wanted, restore_args=how, partial_restore=True)
            centers = checkpointer.restore(folder, args=args)["classifier"]["class_centers"]
            metadata = json.loads((folder.parent / "metadata" / "metadata").read_text())
            return centers[: metadata["data"]["num_identities"]]
    except Exception as error:
        reason = reason_of(error)
        raise UserError(f"the classifier of {folder.parent} cannot be read ({reason}): copy it again") from error
