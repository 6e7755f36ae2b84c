"""The command: every part of a tiny config, its table and its file; what a wrong flag gets."""

import json

import pytest

from lrfr_jax.benchmark import report
from lrfr_jax.errors import UserError
from tests import commands

TINY = [
    "--config=configs/quickstart.py:batch_size=8",
    "--config.model.width=0.0625",
    "--config.model.embedding_size=16",
    "--config.eval_batch_size=7",
    "--config.input.prefetch_images=16",
    "--identities=20",
    "--turns=2",
    "--seconds=0",
]
INPUTS = ("input", "input_raw", "input_cached")


def run(*arguments):
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    return commands.run("benchmark", *arguments, environment={"XLA_FLAGS": flags})


def test_all_parts_on_two_devices(tmp_path):
    output = tmp_path / "new" / "speed.json"
    changes = ("--config.classifier.shards=2", "--config.eval_every_steps=100")
    result = run(*TINY, *changes, f"--output={output}")
    assert result.returncode == 0, result.stderr
    assert output.with_suffix(".md").read_text() == result.stdout
    report = json.loads(output.read_text())
    parts = {part["part"]: part for part in report["parts"]}
    assert list(parts) == ["train_step", "forward", "degradation", "head", *INPUTS, "training", "evaluation"]
    between = 100 * 8 / parts["training"]["images_per_second"]
    for count in (1, 6):  # full resolution alone, and with the lower ones of the config
        taken = 7701 * count / parts["evaluation"]["images_per_second"]
        note = report["notes"][f"a set of LFW's size at {count} resolutions every 100 steps"]
        assert note == f"{taken / (taken + between):.2%} of the time"
    sent = {how: number for how, number in parts["train_step"]["facts"].items() if "sends in a step" in how}
    least = sum(number for how, number in sent.items() if "at least" in how)
    assert 0 < least < sum(sent.values()) - least
    for name, part in parts.items():
        assert f"| {name} | {part['images_per_second']:.1f} |" in result.stdout
        assert part["images_per_second"] == pytest.approx(part["images"] / part["seconds"])
        assert len(part["turns"]) == 2
    step, forward, head = (parts[name] for name in ("train_step", "forward", "head"))
    assert step["operations"] == 3 * 2 * forward["operations"] + head["operations"]
    assert head["operations"] == 3 * 2 * 2 * 8 * 20 * 16
    # The compiler counts all else too: at this size as much again.
    assert 0.8 < step["compiled_operations"] / step["operations"] < 3
    assert 0 < step["mfu"] < 1.5
    assert step["compile_seconds"] > 0
    assert step["temporary_bytes"] > 8 * 112 * 112 * 3
    assert all(parts[name]["facts"]["images per second of one core"] > 0 for name in INPUTS)
    assert 0 < parts["input"]["facts"]["share of bare decoding"] < 1.5
    assert parts["input"]["images"] == 512  # as many of all turns, whatever a batch has
    assert 0 <= parts["training"]["facts"]["share of the time spent waiting for input"] < 1
    assert report["setting"]["devices"].startswith("2 x cpu")
    assert report["kernels"] == {}


def test_kernels_of_two_parts(tmp_path):
    result = run(*TINY, "--parts=degradation,head,input", "--kernels", f"--output={tmp_path}/speed.json")
    spent = json.loads((tmp_path / "speed.json").read_text())["kernels"]
    assert list(spent) == ["degradation", "head", "input"]
    assert spent.pop("input") == {}  # threads of the host alone
    assert "input: JAX's profiler saw no kernel" in result.stdout
    for name, kernels in spent.items():
        assert sum(kernels.values()) > 0
        assert f"| {name}: {len(kernels)} kernels | ms | share |" in result.stdout
    assert "- kernels: without the work that they hand to other threads" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--config is missing: see python -m lrfr_jax.benchmark --help"),
        ([*TINY, "--parts=step"], "--parts step: choose of train_step, forward"),
        ([*TINY, "--config.model.widht=1"], "config.model has no field 'widht'"),
        ([*TINY, "--config.batch_size=9"], "--config.batch_size=9 cannot be split evenly over 2 devices"),
        ([*TINY, "--parts=input", "--data_dir=nosuch"], "no set named generated_train in nosuch"),
        ([*TINY, "--output=speed.md"], "--output speed.md must end in .json"),
        ([*TINY, "--against=torch", "--config.model.backbone=mobilefacenet"], "--against torch"),
    ],
)
def test_bad_command_is_one_sentence(arguments, sentence):
    result = run(*arguments)
    assert result.returncode == 1, result.stderr
    assert sentence in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_an_output_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output .*x\.json cannot be written"):
        report.write(tmp_path / "file/x.json", {"setting": {}, "parts": [], "notes": {}, "kernels": {}})
