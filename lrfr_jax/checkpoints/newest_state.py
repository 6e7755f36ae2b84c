"""Where a run continues: the newest checkpoint that all of its processes can read; newer ones are set aside."""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.files import paths
from lrfr_jax.machines import processes

logger = logging.getLogger("lrfr_jax")

UNREADABLE_FOLDER = "unreadable_checkpoints"
# Where some processes can read a checkpoint and others cannot, it may be whole and something else at fault for a while.
TRIES, PAUSE_SECONDS = 2, 10.0
# As many as processes can tell each other of; nobody falls back over more.
MOST_STEPS = 64


def restore(
    manager: ocp.CheckpointManager, *, backbone: Any, training: Any, check: Callable[[dict], None]
) -> tuple[int, Any, Any] | None:
    """Restores the newest checkpoint that can be read; None if the folder has none at all.

    One that cannot be read (cut off by a full disk) is moved to `unreadable_checkpoints` and the one before is used. If
    none can be read they stay where they are, as the disk may be at fault, and so the run cannot begin anew over them.
    Several processes take the same one, which all of them can read.

    Args:
      manager: from `checkpoint.create_manager`.
      backbone: arrays of the shapes, types and shardings wanted.
      training: the same for the second item.
      check: gets the metadata before any array is read; raises `UserError` if the checkpoint belongs to another run.

    Returns:
      (step, backbone, training).

    Raises:
      UserError: there are checkpoints, but none is readable, or `check` raised it.
    """
    backbone, training = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (backbone, training)
    )
    manager.wait_until_finished()  # a step that is being saved counts when it is whole
    unreadable: dict[int, str] = {}
    for step in _agreed_steps(manager):
        found, reason = _read_together(manager, step, backbone=backbone, training=training, check=check)
        if reason:
            unreadable[step] = reason
            continue
        for other, why in unreadable.items():
            _set_aside(manager, other, why)
        return step, *found
    if unreadable:
        raise UserError(
            f"none of the checkpoints {list(unreadable)} of {checkpoint.folder_of(manager)} can be read "
            f"({next(iter(unreadable.values()))}): copy them again, or start with a new --workdir"
        )
    return None


def _agreed_steps(manager: ocp.CheckpointManager) -> list[int]:
    """The steps that any process sees, newest first: one that a process does not see is one that it cannot read."""
    newest = sorted(manager.all_steps())[-MOST_STEPS:]
    seen = processes.texts_of_all(" ".join(map(str, newest)))
    return sorted({int(step) for text in seen for step in text.split()}, reverse=True)


def _read_together(manager: ocp.CheckpointManager, step: int, **wanted: Any) -> tuple[Any, str]:
    """Returns what this process read, and why the checkpoint cannot be taken, the same on all; '' if it can."""
    for number in range(1, TRIES + 1):
        found, mine = _read(manager, step, **wanted)
        reasons = processes.texts_of_all(mine)
        failed = {process: reason for process, reason in enumerate(reasons) if reason}
        if not failed:
            return found, ""
        if len(reasons) == 1:
            return None, mine
        said = "; ".join(f"process {process}: {reason}" for process, reason in failed.items())
        if len(failed) == len(reasons):
            return None, said
        del found  # before it is read again
        if number < TRIES:
            logger.warning("checkpoint %d is not read by all (%s): once more in %g s", step, said, PAUSE_SECONDS)
            time.sleep(PAUSE_SECONDS)
    return None, said


def _read(
    manager: ocp.CheckpointManager, step: int, *, backbone: Any, training: Any, check: Callable[[dict], None]
) -> tuple[Any, str]:
    """Reads one checkpoint, or says why it cannot.

    Not by the manager, which would wait for the other processes in the end: one that fails would be waited for.
    """
    folder = manager.directory / str(step)
    try:
        with contextlib.closing(ocp.CompositeCheckpointHandler()) as handler:
            check(handler.restore(folder, ocp.args.Composite(metadata=ocp.args.JsonRestore())).metadata)
            # Not strict: the class centers end in rows of zeros, as many as the number of shards asks for.
            items = ocp.args.Composite(
                backbone=ocp.args.StandardRestore(backbone),
                training=ocp.args.StandardRestore(training, strict=False),
            )
            found = handler.restore(folder, items)
            return jax.block_until_ready((found.backbone, found.training)), ""
    except UserError:
        raise
    except Exception as error:
        return None, reason_of(error) or "unknown"


def _set_aside(manager: ocp.CheckpointManager, step: int, reason: str) -> None:
    folder = checkpoint.folder_of(manager)
    targets = (folder.parent / UNREADABLE_FOLDER / f"{step}{end}" for end in ("", *map("_{}".format, range(2, 99))))
    target = next(target for target in targets if not target.exists())
    logger.warning(
        "checkpoint %d cannot be read (%s): it is set aside as %s and the one before is used", step, reason, target
    )
    if jax.process_index() == 0:
        if paths.is_remote(folder):
            paths.move(folder / str(step), target)
            if not paths.is_remote(manager.directory):  # it is staged
                shutil.rmtree(manager.directory / str(step))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.move(folder / str(step), target)
    processes.texts_of_all("")  # none looks before it is moved
    manager.reload()
