"""The command line: what a user gets for wrong flags, configs and fields."""

import functools
import logging

import pytest

from lrfr_jax.files import folder_lock
from lrfr_jax.terminal import config_flag
from tests import commands

run = functools.partial(commands.run, "main")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--config is missing"),
        (["--config=configs/quickstart.py"], "--workdir is missing"),
        (["--config=configs/nosuch.py"], "configs/nosuch.py"),
        (["--config=configs/quickstart.py:policy=nosuch"], "unknown resolution policy 'nosuch': choose one of none"),
        (
            ["--config=configs/quickstart.py", "--config.loss.marginn=1"],
            "config.loss has no field 'marginn'; its fields are:",
        ),
        (["--config=configs/quickstart.py", "--config.seed.x=1"], "has no field 'x'"),
        (["--config=configs/quickstart.py", "--config.batch_size=many"], "--config.batch_size=many"),
        (["--nosuch=1"], "nosuch"),
        (
            ["--config=configs/quickstart.py", "--workdir=W", "--data_dir=nosuch"],
            "no set named generated_train in nosuch",
        ),
        (
            ["--config=configs/quickstart.py", "--workdir=W", "--data_dir=nosuch", "--distributed"],
            "do not come together (coordinator_address should be defined): give each --coordinator",
        ),
    ],
)
def test_bad_command_is_one_sentence(arguments, sentence, tmp_path):
    result = run(*[argument.replace("=W", f"={tmp_path / 'w'}") for argument in arguments])
    assert result.returncode == 1, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert sentence in last
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "w").exists()


def test_help_names_every_flag():
    result = run("--help")
    for flag in ("--config", "--workdir", "--data_dir", "--[no]distributed", "--coordinator"):
        assert flag in result.stdout


def test_workdir_that_is_taken_or_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with folder_lock.alone_in(tmp_path):
        for workdir, sentence in ((tmp_path, "another process is writing into"), (tmp_path / "file", "cannot be made")):
            result = run("--config=configs/quickstart.py", f"--workdir={workdir}", f"--data_dir={tmp_path}")
            assert result.returncode == 1, result.stderr
            assert sentence in result.stderr.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_jax_looked_for_in_vain_is_not_told_and_all_else_is(caplog):
    config_flag.hush_jax()
    jax_logger = logging.getLogger("jax._src.xla_bridge")
    with caplog.at_level(logging.INFO, jax_logger.name):
        jax_logger.info("Unable to initialize backend 'tpu': INTERNAL: no libtpu.so")
        jax_logger.info("Remapping devices")
        jax_logger.warning("Unable to initialize backend 'cuda': the driver is too old")
    assert [message.split(":")[0] for message in caplog.messages] == [
        "Remapping devices",
        "Unable to initialize backend 'cuda'",
    ]
