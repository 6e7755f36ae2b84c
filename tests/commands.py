"""Commands as a user starts them, without the two seconds that importing the libraries takes each time."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Forked from a process that has imported the libraries and nothing of ours.
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(
    [
        "absl.app",
        "clu.metric_writers",
        "flax.linen",
        "grain",
        "ml_collections.config_flags",
        "optax",
        "orbax.checkpoint",
        "tensorflow_datasets",
    ]
)


def run(
    module: str, *arguments: str, folder: pathlib.Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """What `python -m lrfr_jax.MODULE ARGUMENTS` in `folder` ends with: its status, stdout and stderr as text."""
    with tempfile.TemporaryDirectory() as outputs:
        files = [str(pathlib.Path(outputs) / name) for name in ("stdout", "stderr")]
        process = _forkserver.Process(target=_become, args=(module, arguments, str(folder), environment or {}, files))
        process.start()
        process.join()
        texts = [pathlib.Path(file).read_text() for file in files]
    return subprocess.CompletedProcess([module, *arguments], process.exitcode, *texts)


def _become(module, arguments, folder, environment, files):
    for descriptor, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), descriptor)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(f"lrfr_jax.{module}", run_name="__main__", alter_sys=True)
