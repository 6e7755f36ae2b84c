"""A table of experiments: shows the command of each row and seed, or runs them one after the other.

python launch/sweep.py configs/sweeps/table4.py --workdir runs/paper --data_dir data                 shows the commands
python launch/sweep.py configs/sweeps/table4.py --workdir runs/paper --data_dir data --rows all      runs them
Each run is ROOT/<row>/seed<k>, what it prints is ROOT/<row>/seed<k>.log. Run again, a finished run is left as it is and
a stopped one continues. A run that fails does not keep the others from running; the exit status is then 1. Ctrl-C and
SIGTERM let the running one save its state, and end the sweep.
"""

import argparse
import os
import pathlib
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.files import paths, sweep_file

TRAIN, EVALUATE = ("-m", "lrfr_jax.main"), ("-m", "lrfr_jax.evaluate")


def main(argv: Sequence[str] | None = None) -> int:
    """Shows or runs what the command line says; returns the exit status.

    Raises:
      UserError: a bad option or sweep file.
    """
    options = _parser().parse_args(argv)
    paths.require_local(vars(options))
    sweep = sweep_file.read(options.file)
    seeds = _seeds(options.seeds)
    _check_changes(options.set)
    rows = [sweep.rows[name] for name in _chosen("all" if options.rows is None else options.rows, list(sweep.rows))]
    for row in rows:
        if row.config is None:  # as a comment, so that the commands can be pasted into a shell
            print(f"# {row.name} has no config: its published numbers stand in the tables alone")
    rows = [row for row in rows if row.config is not None]
    # Seed by seed, so that a whole table is there early.
    runs = {
        sweep_file.folder(options.workdir, row.name, seed): _commands(row, seed, options)
        for seed in seeds
        for row in rows
    }
    if options.rows is None:
        for commands in runs.values():
            print(" && ".join(shlex.join(["python", *command]) for command in commands))
        return 0
    return _run_all(runs)


def _commands(row: sweep_file.Row, seed: int, options: argparse.Namespace) -> list[list[str]]:
    root, data_dir = options.workdir, options.data_dir
    training = sweep_file.arguments(row, seed=seed, changes=options.set, root=root, data_dir=data_dir)
    commands = [[*TRAIN, *training]]
    if options.evaluate:
        workdir = str(sweep_file.folder(root, row.name, seed))
        commands.append([*EVALUATE, "--workdir", workdir, "--data_dir", data_dir, "--sets", options.evaluate])
    return commands


def _run_all(runs: dict[pathlib.Path, list[list[str]]]) -> int:
    """Runs the commands of each run in order and sums up; returns 0, 1 if any failed, or 128 + signal if stopped."""
    received: list[int] = []
    running: list[subprocess.Popen] = []

    def stop(number, frame):
        received.append(number)
        for process in running:
            process.terminate()  # main saves its state at SIGTERM, not at the SIGINT of Ctrl-C

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    results = {}
    try:
        for number, (workdir, commands) in enumerate(runs.items(), 1):
            if received:
                break
            print(f"[{number}/{len(runs)}] {workdir}", flush=True)
            since = time.monotonic()
            status = _run(commands, log=sweep_file.log_of(workdir), received=received, running=running)
            results[workdir] = "stopped" if received else "done" if status == 0 else f"failed with status {status}"
            print(f"[{number}/{len(runs)}] {workdir}: {results[workdir]}, {time.monotonic() - since:.0f} s", flush=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    failed = {workdir: result for workdir, result in results.items() if result.startswith("failed")}
    for workdir, result in failed.items():
        print(f"{workdir} {result}: {_last_line(sweep_file.log_of(workdir))} (see {sweep_file.log_of(workdir)})")
    done = sum(result == "done" for result in results.values())
    print(f"{done} of {len(runs)} runs done, {len(failed)} failed, {len(runs) - done - len(failed)} not finished")
    return 128 + received[0] if received else int(bool(failed))


def _run(commands: list[list[str]], *, log: pathlib.Path, received: list[int], running: list[subprocess.Popen]) -> int:
    """Runs commands until one fails, all output to the end of `log`; returns the last one's exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.abspath(".jax_cache"))
    # As launch/environment.sh sets it: a training step on a CPU loses a fifth of its time to page faults without.
    defaults = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    environment = defaults | os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "PYTHONUNBUFFERED": "1"}
    status = 0
    with log.open("a") as file:
        for command in commands:
            if status or received:
                break
            print(f"sweep: {shlex.join(['python', *command])}", file=file, flush=True)
            since = time.monotonic()
            # A process group of its own: Ctrl-C reaches the sweep alone, which passes it on.
            process = subprocess.Popen(
                [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, env=environment, process_group=0
            )
            running.append(process)
            if received:
                process.terminate()
            status = process.wait()
            running.remove(process)
            machine = f"{platform.machine()}, {os.cpu_count()} CPU cores"
            print(f"sweep: status {status} after {time.monotonic() - since:.0f} s on {machine}", file=file, flush=True)
    return status


def _last_line(log: pathlib.Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line and not line.startswith("sweep: ")]
    return lines[-1] if lines else "it printed nothing"


def _chosen(text: str, names: list[str]) -> list[str]:
    """The rows that `--rows` names: 'all', or numbers from 0 and names."""
    if text == "all":
        return names
    chosen = []
    for word in _words(text):
        if word in names:
            chosen.append(word)
        elif word.isdecimal() and int(word) < len(names):
            chosen.append(names[int(word)])
        else:
            listed = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise UserError(f"--rows {word!r} is no row: choose of {listed}")
    return list(dict.fromkeys(chosen))


def _words(text: str) -> list[str]:
    """The words between commas, empty ones too: an empty variable of a shell must not start other runs."""
    return list(map(str.strip, text.split(",")))


def _seeds(text: str) -> list[int]:
    words = _words(text)
    if not all(word.isdecimal() for word in words):
        raise UserError(f"--seeds {text!r} must be whole numbers from 0, such as 0,1,2")
    return list(dict.fromkeys(map(int, words)))


def _check_changes(changes: Sequence[str]) -> None:
    for change in changes:
        field, separator, _ = change.partition("=")
        if not field or not separator:
            raise UserError(f"--set {change!r} must be field=value, such as optimizer.learning_rate=0.01")
        if field == "seed":
            raise UserError(f"--set {change} would give all runs one seed: use --seeds")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python launch/sweep.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", metavar="FILE", help="the table: a file of configs/sweeps")
    parser.add_argument("--workdir", required=True, metavar="ROOT", help="folder of all runs")
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="folder of the prepared sets")
    parser.add_argument(
        "--rows", metavar="R,R", help="rows to run: 'all', or numbers from 0 and names; without it: show all"
    )
    parser.add_argument("--seeds", default="0", metavar="K,K", help="seeds of each row (default: 0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the config for all rows; repeatable",
    )
    parser.add_argument(
        "--evaluate", metavar="A,B", help="sets on which each finished run is evaluated, in place of the config's own"
    )
    return parser


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main(sys.argv[1:]))
