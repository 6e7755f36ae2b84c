"""Lists with commas: the same words with spaces, in every command that takes one."""

import argparse

import pytest

from configs import quickstart
from lrfr_jax import evaluate, verify
from lrfr_jax.analysis.figures import models_and_faces, option_types, pairs
from lrfr_jax.errors import UserError
from lrfr_jax.files import paths
from lrfr_jax.prepare import pairs as pair_files
from lrfr_jax.terminal import comma_list
from tests import commands


def test_words_and_one_word():
    assert comma_list.words(" a, b ,,c,") == ["a", "b", "c"]
    assert comma_list.words(" ") == []
    assert comma_list.one_word(" lfw ") == "lfw"
    for text in ("lfw,cfp_fp", "", ","):
        with pytest.raises(argparse.ArgumentTypeError, match="must be one name here"):
            comma_list.one_word(text)


def test_commands_read_spaced_lists_alike():
    given = ["--checkpoint", "c", "--data_dir", "d", "--sets", "a, b", "--resolutions", "20, 14", "--fars", "0.1, 0.01"]
    options = evaluate._parser().parse_args(given)
    assert (options.sets, options.resolutions, options.fars) == (("a", "b"), (20, 14), (0.1, 0.01))
    assert verify._resolutions("20, 7") == (20, 7)
    assert option_types.resolutions("14, 28") == (28, 14)
    assert option_types.several_at_least_zero("0, 2") == (0.0, 2.0)
    assert pair_files._fold_numbers("10, 9") == [9, 10]
    config = quickstart.get_config("policy=none, batch_size = 8")
    assert (tuple(config.augment.sizes), config.batch_size) == ((), 8)


def test_a_list_of_nothing_is_refused_and_not_left_out():
    with pytest.raises(UserError, match=r"--workdirs ,  names none: write names with commas between"):
        comma_list.some_words(", ", "--workdirs")
    for parse in (verify._resolutions, pair_files._fold_numbers):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(",")


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--checkpoint", "c", "--data_dir", "d", "--sets", ","],
        ["analysis.compare", "--workdirs", ",", "--output", "o"],
        ["analysis.report", "--workdirs", ",", "--output", "o.html"],
    ],
)
def test_commands_refuse_a_list_of_nothing(command, tmp_path):
    done = commands.run(*command, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert "names none" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_bucket_is_found_behind_a_space():
    with pytest.raises(UserError, match="--workdirs s3://b/run must be on this machine"):
        paths.require_local({"workdirs": "runs/a, s3://b/run"})


def parser_of(add_arguments):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser.add_argument)
    return parser


@pytest.mark.parametrize("flag", ["--set", "--sets"])
def test_set_and_sets_are_one(flag):
    common = ["--checkpoint", "c", "--data_dir", "d"]
    assert evaluate._parser().parse_args([*common, flag, "lfw"]).sets == ("lfw",)
    assert parser_of(pairs.add_sets).parse_args([flag, "lfw"]).sets == "lfw"
    faces = parser_of(lambda add: models_and_faces.add_faces(add, num_images=3))
    assert faces.parse_args([flag, "lfw"]).set_name == "lfw"
    with pytest.raises(SystemExit):
        faces.parse_args([flag, "lfw,cfp_fp"])
