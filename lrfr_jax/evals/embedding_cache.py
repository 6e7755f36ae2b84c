"""Features on disk, so that ten protocols embed a set once: keyed by the model's weights and by the set's files."""

import contextlib
import hashlib
import logging
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from lrfr_jax.data.face_sets import TestSet
from lrfr_jax.errors import NPZ_ERRORS

logger = logging.getLogger("lrfr_jax")


class EmbeddingCache:
    """A folder of features of one model: `FOLDER/<model>/<set>/<resolution>.npz` holds record numbers and features.

    Features identify people as their images do: keep the folder as the images are kept.
    """

    def __init__(self, folder: str | os.PathLike, model: str):
        # 16 hexadecimal digits: by chance, two models in four billion share them.
        self.folder = pathlib.Path(folder) / model[:16]

    def load(
        self, test_set: TestSet, *, wanted: Mapping[int, Int[np.ndarray, " records"]], num_views: int
    ) -> dict[int, Float[np.ndarray, "images views dim"]]:
        """Returns features of the resolutions at which all wanted records are there, a row per record of the set.

        Features of fewer views than `num_views` (2 with the mirrored image) count as missing.

        A file that cannot be read is told and passed over; `store` replaces it.
        """
        found = {}
        for resolution, records in wanted.items():
            path = self._path(test_set, resolution)
            if not path.exists():
                continue
            try:
                with np.load(path, allow_pickle=False) as file:
                    held, rows = file["records"], file["features"]
            except NPZ_ERRORS as error:
                logger.warning("%s cannot be read (%s): its images are embedded again", path, error)
                continue
            if rows.ndim == 3 and rows.shape[1] >= num_views and np.isin(records, held).all():
                found[resolution] = np.zeros((len(test_set.source), *rows.shape[1:]), np.float32)
                found[resolution][held] = rows
        return found

    def store(
        self,
        test_set: TestSet,
        features: Mapping[int, Float[np.ndarray, "images views dim"]],
        *,
        wanted: Mapping[int, Int[np.ndarray, " records"]],
    ) -> None:
        """Writes the wanted records' features, each file whole or not at all; one with other records is replaced.

        A file that cannot be written is told and passed over, as the features themselves are there.
        """
        for resolution, table in features.items():
            path = self._path(test_set, resolution)
            partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(partial, records=wanted[resolution], features=table[wanted[resolution]])
                os.replace(partial, path)
            except OSError as error:
                logger.warning("%s cannot be written (%s): the next call embeds its images again", path, error)
                with contextlib.suppress(OSError):
                    partial.unlink()

    def _path(self, test_set: TestSet, resolution: int) -> pathlib.Path:
        """A set that was removed and prepared anew has other files, so another name here."""
        digest = hashlib.sha256()
        for path in sorted(test_set.path.iterdir()):
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return self.folder / f"{test_set.name}-{digest.hexdigest()[:16]}" / f"{resolution}.npz"
