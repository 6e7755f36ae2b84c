"""The command `plan`: what fits, what would, what is wrong."""

import functools
import re
import shlex

import jax.numpy as jnp
import pytest

from configs import common
from lrfr_jax.checkpoints import checkpoint
from tests import commands

SMALL = ["--config=configs/quickstart.py:batch_size=1024", "--devices=8"]
OF_MS1M = ["--identities=85742", "--images=5822653", "--devices=8"]
MS1M = ["--config=configs/ms1m_r50.py:batch_size=1024", "--config.model.backbone=resnet18", *OF_MS1M]
run = functools.partial(commands.run, "plan")


def test_fits():
    result = run(*MS1M, "--device_memory=80", "--teraflops=200")
    assert result.returncode == 0, result.stderr
    gigabytes = [float(number) for number in re.findall(r"([\d.]+) GB a device", result.stdout)]
    assert gigabytes[-1] == pytest.approx(sum(gigabytes[:-1]), abs=0.03)
    assert "90,979 steps" in result.stdout  # 16 epochs of 5,822,653 images by 1,024, the last one begun
    tera, hours = (float(re.search(rf"([\d.]+) {word}", result.stdout)[1]) for word in ("Tera operations a", "hours"))
    assert hours == pytest.approx(tera * 90_979 / (8 * 200 * 3600), rel=0.01)
    assert f"It fits: {gigabytes[-1]:.1f} GB of 80 GB" in result.stdout


@pytest.mark.parametrize(
    ("identities", "memory", "advice"),
    [
        ("10000000", "20", "--config.classifier.shards=8 --config.classifier.chunks=4"),
        ("100", "0.36", "--config.batch_size=512"),
    ],
)
def test_the_advice_fits(identities, memory, advice):
    result = run(*SMALL, "--images=5822653", f"--identities={identities}", f"--device_memory={memory}")
    assert "It does not fit: " in result.stdout
    assert f"With {advice} it takes" in result.stdout
    takes = re.search(r"it takes ([\d.]+) GB", result.stdout)[1]
    again = run(
        *SMALL, "--images=5822653", f"--identities={identities}", f"--device_memory={memory}", *shlex.split(advice)
    )
    assert f"It fits: {takes} GB" in again.stdout


def test_a_cache_counts_and_is_the_first_thing_to_leave_out():
    casia = ["--identities=10572", "--images=490623", "--device_memory=16"]
    cached = run(*SMALL, *casia, "--config.input.cache=device").stdout
    assert "cache of the training set             18.47 GB a device" in cached
    second = ["--second_images=490623", "--config.input.second.dataset=native", "--config.input.cache=device"]
    assert "cache of the training set             36.93 GB a device" in run(*SMALL, *casia, *second).stdout
    assert "cache of the training set              0.00 GB a device" in run(*SMALL, *casia).stdout
    assert re.search(r"It does not fit: .* With --config\.input\.cache=none it takes", cached)


def test_nothing_fits():
    result = run(*SMALL, "--images=5822653", "--identities=85742", "--device_memory=0.01")
    assert "nor with any change that is tried: take more devices" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (MS1M, "--device_memory is missing"),
        ([*MS1M, "--device_memory=80", "--devices=3"], "--config.batch_size=1024 is no multiple of 3"),
        ([*MS1M, "--device_memory=80", "--config.input.cache=all"], "cache=all is unknown: choose one of none, device"),
        (
            [*MS1M, "--device_memory=80", "--config.input.second.dataset=native"],
            "--second_images and --config.input.sec",
        ),
        ([*MS1M, "--device_memory=80", "--second_images=9"], "--second_images and --config.input.second.dataset need"),
        ([*MS1M, "--device_memory=80", "--config.classifier.shards=3"], "shards=3 does not divide --devices=8"),
    ],
)
def test_bad_command_is_one_sentence(arguments, sentence):
    result = run(*arguments)
    assert result.returncode == 1
    assert sentence in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("cache", ["none", "records"])
def test_a_teacher_is_planned(tiny_teacher, cache):
    """Its weights and its forward pass; what is kept of each record where the set is on the devices."""
    config = ["--config=configs/compatible_lfw_pubfig.py:batch_size=8", f"--config.teacher.checkpoint={tiny_teacher}"]
    rest = ["--identities=4901", "--images=15398", "--device_memory=16", "--config.input.cache=device"]
    result = run(*config, *rest, f"--config.teacher.cache={cache}")
    assert result.returncode == 0, result.stderr
    kept = 15398 * (112 * 112 * 3 + 4 + (2 * 128 * 4 if cache == "records" else 0)) / 1e9
    assert re.search(rf"cache of the training set +{kept:.2f} GB a device", result.stdout)
    assert "It fits" in result.stdout


@pytest.fixture(scope="module")
def tiny_teacher(tmp_path_factory):
    """Of another network than the student's, as long a feature."""
    model = {"backbone": "resnet18", "width": 0.0625, "embedding_size": 128, "dropout": 0.0, "dtype": "float32"}
    model["input"] = common.model_input().to_dict()
    folder = tmp_path_factory.mktemp("teacher") / "net"
    metadata = {"step": 0, "model": model, "degradation_rounding": "uint8"}
    checkpoint.save_backbone(folder, {"params": {"nothing": jnp.zeros(2)}}, metadata)
    return folder
