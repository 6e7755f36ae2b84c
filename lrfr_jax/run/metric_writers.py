"""Where numbers go: `metrics.jsonl` (what runs are compared by) and TensorBoard events (that and all the rest)."""

import concurrent.futures
import json
import os
import pathlib
import sys
import tempfile
import time
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorboardX

# clu.metric_writers imports TensorFlow (1.4 GB) for its TensorBoard writer only. A module of that name, put in place
# before the first import, keeps the rest of clu usable without it. The one side effect at import in this project.
sys.modules.setdefault(
    "clu.metric_writers.summary_writer",
    types.SimpleNamespace(SummaryWriter=None),  # type: ignore[arg-type]
)
from clu import metric_writers  # noqa: E402

from lrfr_jax.errors import UserError  # noqa: E402
from lrfr_jax.files import paths  # noqa: E402

METRICS_FILE = "metrics.jsonl"
# Between two copies of the files to an object store while nothing asks for one: what a reader lags behind.
MIRROR_SECONDS = 30.0


class _ScalarsOnly(metric_writers.MetricWriter):
    """Leaves every other kind of summary to TensorBoard."""

    def write_summaries(self, step, values, metadata=None): ...
    def write_images(self, step, images): ...
    def write_videos(self, step, videos): ...
    def write_audios(self, step, audios, *, sample_rate): ...
    def write_texts(self, step, texts): ...
    def write_histograms(self, step, arrays, num_buckets=None): ...
    def write_hparams(self, hparams): ...


class JsonLinesWriter(_ScalarsOnly):
    """Writes one JSON line per step with its scalars.

    Lines after `start_step` are dropped when the file is opened: they belong to steps that a killed run had taken after
    its last checkpoint and that are now taken again. So the file of an interrupted run equals an uninterrupted one's.
    """

    def __init__(self, path: pathlib.Path, *, start_step: int):
        self._path = path
        lines = [json.dumps(line) for line in _read_lines(path) if line["step"] <= start_step]
        paths.write_text(path, "".join(f"{line}\n" for line in lines))
        self._file = path.open("a")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]):
        line = {"step": int(step)} | {key: float(value) for key, value in scalars.items()}
        # Flushed at once: a checkpoint must never be newer than the last line.
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.close()


def _read_lines(path: paths.AnyPath) -> list[dict[str, float | int]]:
    """Lines of the file without a last one that was cut off while being written."""
    if not path.exists():
        return []
    text = path.read_text()
    lines = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            lines.append(json.loads(line))
            lines[-1]["step"]
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(f"line {number} of {path} is damaged ({error!r}): remove it, or copy the file") from error
    return lines


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, float | int]]:
    """Returns the lines of a run's `metrics.jsonl`, each a dict with `step` and its scalars, in order of writing."""
    return _read_lines(paths.of(workdir) / METRICS_FILE)


def is_evaluated(workdir: str | os.PathLike, step: int) -> bool:
    """Whether a run's `metrics.jsonl` has a line of this step beside that of its training."""
    lines = [line for line in read_metrics(workdir) if line["step"] == step]
    return any(not any(key.startswith("train/") for key in line) for line in lines)


class TensorBoardWriter(metric_writers.MetricWriter):
    """clu's writer interface on tensorboardX, which needs no TensorFlow; events after `start_step` are purged."""

    def __init__(self, logdir: pathlib.Path, *, start_step: int):
        purged = {"purge_step": start_step + 1} if start_step else {}
        # The file's name holds the second; two that end up in one bucket must not be one.
        self._writer = tensorboardX.SummaryWriter(str(logdir), filename_suffix=f".{start_step}", **purged)

    def write_scalars(self, step: int, scalars: Mapping[str, Any]):
        for key, value in scalars.items():
            # TensorBoard's names know no '@' and no '='.
            self._writer.add_scalar(key.replace("@", "_at_").replace("=", "_"), float(value), step)

    def write_texts(self, step: int, texts: Mapping[str, str]):
        for key, text in texts.items():
            self._writer.add_text(key, text, step)

    def write_images(self, step: int, images: Mapping[str, Any]):
        for key, image in images.items():
            self._writer.add_images(key, np.asarray(image), step, dataformats="NHWC")

    def write_histograms(self, step, arrays, num_buckets=None):
        for key, array in arrays.items():
            self._writer.add_histogram(key, np.asarray(array), step, bins="auto")

    def write_hparams(self, hparams: Mapping[str, Any]):
        # add_hparams of tensorboardX starts a sub-run of its own; the bare summaries stay in this one.
        for summary in tensorboardX.summary.hparams(dict(hparams), {}):
            self._writer.file_writer.add_summary(summary)

    def write_videos(self, step, videos):
        for key, video in videos.items():
            self._writer.add_video(key, np.asarray(video), step)

    def write_audios(self, step, audios, *, sample_rate):
        for key, audio in audios.items():
            self._writer.add_audio(key, np.asarray(audio), step, sample_rate=sample_rate)

    def write_summaries(self, step, values, metadata=None):
        raise TypeError("raw summaries need TensorFlow, which is not used here: call write_scalars or write_texts")

    def flush(self):
        self._writer.flush()

    def close(self):
        self._writer.close()


class Mirror(_ScalarsOnly):
    """Copies what the writers before it wrote on this machine to an object store, which cannot append to a file.

    `flush` and `close` return when every line and event is there; in between the files are copied whole, every
    `MIRROR_SECONDS`, by a thread for which nothing waits.
    """

    def __init__(self, folder: tempfile.TemporaryDirectory, workdir: paths.AnyPath):
        self._folder, self._workdir = folder, workdir
        self._sender = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._since, self._sending = time.monotonic(), None

    def write_scalars(self, step: int, scalars: Mapping[str, Any]):
        waits = self._sending is not None and not self._sending.done()
        if time.monotonic() - self._since >= MIRROR_SECONDS and not waits:
            self._send()

    def flush(self):
        self._send()
        self._sending.result()

    def close(self):
        self.flush()
        self._sender.shutdown()
        self._folder.cleanup()

    def _send(self) -> None:
        self._since = time.monotonic()
        self._sending = self._sender.submit(paths.upload, pathlib.Path(self._folder.name), self._workdir)


def create_writers(workdir: paths.AnyPath, *, start_step: int, is_main_process: bool) -> tuple[Any, Any]:
    """Returns (metrics writer, side writer), which go on after `start_step`.

    The first writes `metrics.jsonl` and TensorBoard: values that depend on nothing but config, data and step. The
    second writes TensorBoard only: speeds, waiting shares, texts. On other processes than the first both write nothing.
    For a workdir in an object store they write on this machine, and the first one's `flush` and `close` copy it there.
    """
    if not is_main_process:
        return metric_writers.MultiWriter([]), metric_writers.MultiWriter([])
    folder, mirrors = workdir, []
    if paths.is_remote(workdir):
        temporary = tempfile.TemporaryDirectory(prefix="metrics_")
        folder, mirrors = pathlib.Path(temporary.name), [Mirror(temporary, workdir)]
        if (workdir / METRICS_FILE).exists():
            (folder / METRICS_FILE).write_bytes((workdir / METRICS_FILE).read_bytes())
    tensorboard = TensorBoardWriter(folder, start_step=start_step)
    lines = JsonLinesWriter(folder / METRICS_FILE, start_step=start_step)
    return metric_writers.MultiWriter([lines, tensorboard, *mirrors]), tensorboard
