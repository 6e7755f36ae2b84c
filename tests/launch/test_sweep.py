"""The sweep's door, with a stub in the place of training: what is shown, run, kept, reported and passed on."""

import os
import pathlib
import runpy
import signal
import subprocess
import sys

import pytest

from lrfr_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch" / "sweep.py"
SWEEP = """BASE = "b.py"
TABLES = {}
def rows():
    for name in ("good", "bad", "slow"):
        yield {"name": name, "arg": "", "overrides": {"a.b": 1.5}, "paper": {}}
"""
# Stands for `lrfr_jax.main`: notes its arguments and behaves as the name of its row says.
STUB = """
import os, pathlib, signal, sys
workdir = pathlib.Path(sys.argv[sys.argv.index("--workdir") + 1])
workdir.mkdir(exist_ok=True)
with open(workdir / "calls", "a") as file:
    print(*sys.argv[1:], file=file)
print("hello from", workdir.parent.name)
(workdir / "tunables").write_text(os.environ["GLIBC_TUNABLES"])
if workdir.parent.name == "bad":
    sys.exit("error: it went wrong")
if workdir.parent.name == "slow":
    def stop(number, frame):
        (workdir / "signal").write_text(str(number))
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, stop)
    print("waiting", file=open(sys.argv[0] + ".pipe", "w"), flush=True)
    signal.pause()
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs `launch/sweep.py` in this process with the stub; returns its exit status."""
    (tmp_path / "table.py").write_text(SWEEP)
    (tmp_path / "stub.py").write_text(STUB)
    module = runpy.run_path(str(SCRIPT))
    monkeypatch.setitem(module["main"].__globals__, "TRAIN", (str(tmp_path / "stub.py"),))
    monkeypatch.setitem(module["main"].__globals__, "EVALUATE", (str(tmp_path / "stub.py"), "evaluate"))
    common = [str(tmp_path / "table.py"), "--workdir", str(tmp_path / "R"), "--data_dir", "D"]
    return lambda *options: module["main"]([*common, *options])


def test_without_rows_the_commands_are_shown(tmp_path, sweep, capsys):
    assert sweep("--seeds", "0,2", "--set", "x.y=(1, 2)", "--evaluate", "lfw,xqlfw") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    workdir = f"{tmp_path}/R/bad/seed2"
    assert lines[4] == (
        f"python {tmp_path}/stub.py --config b.py --workdir {workdir} --data_dir D --config.a.b=1.5 "
        f"'--config.x.y=(1, 2)' --config.seed=2 && "
        f"python {tmp_path}/stub.py evaluate --workdir {workdir} --data_dir D --sets lfw,xqlfw"
    )
    assert not (tmp_path / "R").exists()


def test_a_row_without_a_config_is_a_comment_and_does_not_run(tmp_path, sweep, capsys):
    text = SWEEP.replace("TABLES = {}", 'TABLES = {"T": {"one": "faces/accuracy"}}')
    text += '    yield {"name": "told", "arg": "", "overrides": {}, "paper": {"faces/accuracy": 9.5}, "config": None}\n'
    (tmp_path / "table.py").write_text(text)
    assert sweep() == 0
    first, *commands = capsys.readouterr().out.splitlines()
    assert first == "# told has no config: its published numbers stand in the tables alone"
    assert len(commands) == 3
    assert sweep("--rows", "good,told") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 runs done, 0 failed, 0 not finished"
    assert not (tmp_path / "R/told").exists()


@pytest.mark.parametrize("chosen", [None, "glibc.malloc.arena_max=1"])
def test_runs_get_huge_pages_unless_the_user_chose(tmp_path, sweep, monkeypatch, chosen):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if chosen:
        monkeypatch.setenv("GLIBC_TUNABLES", chosen)
    assert sweep("--rows", "good") == 0
    assert (tmp_path / "R/good/seed0/tunables").read_text() == (chosen or "glibc.malloc.hugetlb=1")


def test_a_failure_stops_no_other_run_and_is_told(tmp_path, sweep, capsys):
    assert sweep("--rows", "bad,0", "--seeds", "0,1", "--evaluate", "lfw") == 1
    calls = {path.parent: path.read_text().splitlines() for path in tmp_path.glob("R/*/*/calls")}
    assert {f"{path.parent.name}/{path.name}": len(lines) for path, lines in calls.items()} == {
        "good/seed0": 2,
        "good/seed1": 2,
        "bad/seed0": 1,
        "bad/seed1": 1,
    }
    assert calls[tmp_path / "R/good/seed1"][1] == f"evaluate --workdir {tmp_path}/R/good/seed1 --data_dir D --sets lfw"
    out = capsys.readouterr().out
    assert f"R/bad/seed1 failed with status 1: error: it went wrong (see {tmp_path}/R/bad/seed1.log)" in out
    assert out.splitlines()[-1] == "2 of 4 runs done, 2 failed, 0 not finished"


def test_a_log_grows_and_says_command_time_and_machine(tmp_path, sweep):
    assert [sweep("--rows", "0"), sweep("--rows", "0")] == [0, 0]
    first, hello, last, *again = (tmp_path / "R/good/seed0.log").read_text().splitlines()
    assert first == (
        f"sweep: python {tmp_path}/stub.py --config b.py --workdir {tmp_path}/R/good/seed0 --data_dir D "
        "--config.a.b=1.5 --config.seed=0"
    )
    assert hello == "hello from good"
    assert last.startswith("sweep: status 0 after ")
    assert last.endswith(f", {os.cpu_count()} CPU cores")
    assert again[1] == "hello from good"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_run_as_sigterm_and_ends_the_sweep(tmp_path, number):
    (tmp_path / "table.py").write_text(SWEEP)
    (tmp_path / "stub.py").write_text(STUB)
    pipe = tmp_path / "stub.py.pipe"
    os.mkfifo(pipe)
    # The real script, with the stub for `-m lrfr_jax.main`.
    script = SCRIPT.read_text().replace('("-m", "lrfr_jax.main")', repr((str(tmp_path / "stub.py"),)))
    (tmp_path / "sweep.py").write_text(script)
    command = [sys.executable, str(tmp_path / "sweep.py"), str(tmp_path / "table.py"), "--workdir", str(tmp_path / "R")]
    process = subprocess.Popen(
        [*command, "--data_dir", "D", "--rows", "slow,good"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert pipe.read_text() == "waiting\n"  # opening waits for the run to get there
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert (tmp_path / "R/slow/seed0/signal").read_text() == str(int(signal.SIGTERM))
    assert not (tmp_path / "R/good").exists()
    assert out.splitlines()[-1] == "0 of 2 runs done, 0 failed, 2 not finished"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rows", "3"), "--rows '3' is no row: choose of 0 good, 1 bad, 2 slow"),
        (("--rows", "good,nosuch"), "'nosuch' is no row"),
        (("--rows", ""), "--rows '' is no row"),  # an empty variable of a shell is not all rows
        (("--seeds", "0,-1"), "--seeds '0,-1' must be whole numbers"),
        (("--seeds", "0,"), "must be whole numbers"),
        (("--set", "a.b"), "must be field=value"),
        (("--set", "seed=3"), "use --seeds"),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, sweep, options, sentence):
    with pytest.raises(UserError, match=sentence):
        sweep(*options)
    assert not (tmp_path / "R").exists()
