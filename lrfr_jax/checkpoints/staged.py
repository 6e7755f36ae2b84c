"""Checkpoints in an object store that orbax does not know (s3://): written and read on this machine, copied there.

orbax gives arrays to tensorstore by its `file` and `gcs` drivers only. So a manager works in a folder of this machine,
and each step is copied when it is whole, in the background. As orbax does in gs://, a step there counts when it holds
the file `COMMITTED`, which comes last.
"""

import concurrent.futures
import pathlib
import tempfile
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from lrfr_jax.errors import UserError
from lrfr_jax.files import paths

COMMITTED = "commit_success.txt"


class StagedManager(ocp.CheckpointManager):
    """An orbax manager whose steps end up in `target`; what is whole there is fetched first."""

    def __init__(self, target: epath.Path, *, keep: int):
        if jax.process_count() > 1:
            raise UserError(
                f"{target}: several processes can save into gs:// or onto a shared disk, not into s3://: "
                "use one of these as --workdir, or one process"
            )
        self.target = target
        self._temporary = tempfile.TemporaryDirectory(prefix="checkpoints_")
        self._staging, self._keep = pathlib.Path(self._temporary.name), keep
        self._sender, self._sending = concurrent.futures.ThreadPoolExecutor(max_workers=1), None
        for step in committed(target):
            paths.download(target / str(step), self._staging / str(step))
        super().__init__(self._staging, options=ocp.CheckpointManagerOptions(max_to_keep=keep))

    def save(self, *args: Any, **kwargs: Any) -> bool:
        """Waits for the step before and its copy, then begins to save and to copy this one."""
        saved = super().save(*args, **kwargs)
        self._sending = self._sender.submit(self._publish_when_whole)
        return saved

    def wait_until_finished(self) -> None:
        """Waits for the step that is being saved, and for its copy."""
        super().wait_until_finished()
        if self._sending is not None:
            self._sending.result()

    def close(self) -> None:
        """Waits for the last copy, and removes the folder of this machine."""
        super().close()
        self._sender.shutdown()
        self._temporary.cleanup()

    def _publish_when_whole(self) -> None:
        super().wait_until_finished()
        publish(self._staging, self.target, keep=self._keep)


def committed(folder: epath.Path) -> list[int]:
    """The steps of a folder in an object store that are whole, ascending."""
    found = (path.parent.name for path in folder.glob(f"*/{COMMITTED}"))
    return sorted(int(name) for name in found if name.isdigit())


def publish(staging: pathlib.Path, target: epath.Path, *, keep: int) -> None:
    """Copies every whole step that `target` lacks; then removes all but the newest `keep`, and what was cut off.

    Raises:
      UserError: the object store refuses it.
    """
    there = committed(target)
    # orbax gives a step its name, a number, when it is whole.
    made = sorted(int(path.name) for path in staging.iterdir() if path.name.isdigit())
    for step in made:
        if step not in there:
            (target / str(step)).rmtree(missing_ok=True)
            paths.upload(staging / str(step), target / str(step), leave_out=COMMITTED)
            paths.write_text(target / str(step) / COMMITTED, "")
    kept = {str(step) for step in sorted({*there, *made})[-keep:]}
    for path in list(target.iterdir()):
        if path.name.isdigit() and path.name not in kept:
            path.rmtree(missing_ok=True)
