import argparse

import pytest

from lrfr_jax.analysis.figures import __main__ as figures
from lrfr_jax.analysis.figures import option_types


def test_numbers_are_read():
    assert option_types.resolutions("7,112,14,7") == (112, 14, 7)
    assert option_types.positive("3") == 3
    assert option_types.seed("0") == 0
    assert option_types.several_at_least_zero("0,2.5") == (0.0, 2.5)
    assert option_types.finite("-1e3") == -1000
    assert option_types.at_least_one("1") == 1


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (option_types.resolutions, ("", "0", "113", "a", "7;8")),
        (option_types.positive, ("0", "-1", "x")),
        (option_types.seed, ("-1", "x", str(2**32))),
        (option_types.finite, ("nan", "inf", "x")),
        (option_types.above_zero, ("0", "-1", "nan", "inf")),
        (option_types.at_least_zero, ("-0.1", "nan")),
        (option_types.at_least_one, ("0.9", "nan")),
        (option_types.several_at_least_zero, (",", "1,-1", "1,x")),
    ],
)
def test_other_text_is_refused(read, texts):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


CHECKPOINT = "--checkpoints a --data_dir d --output o"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (f"pca --set s {CHECKPOINT} --batch_size 0", "argument --batch_size: '0' is no whole number of 1 or more"),
        (f"pca --set s {CHECKPOINT} --seed -1", "argument --seed: '-1' is no whole number from 0 to"),
        (f"resolution --set s {CHECKPOINT} --seed -1", "argument --seed: '-1' is no whole number from 0 to"),
        (f"gradient_norm --set s {CHECKPOINT} --scale nan", "argument --scale: 'nan' is no number above 0"),
        (f"gradient_norm --set s {CHECKPOINT} --margin nan", "argument --margin: 'nan' is no number that is finite"),
        (f"gradient_norm --set s {CHECKPOINT} --p nan", "argument --p: 'nan' is no number of 1 or more"),
        (f"gradient_norm --set s {CHECKPOINT} --distance_weight -1", "argument --distance_weight: '-1' is no number"),
        ("derivatives --output o --left_c -1", "argument --left_c: '-1' is no number of 0 or more"),
        ("derivatives --output o --right_c 1,-1", "argument --right_c: '-1' is no number of 0 or more"),
        ("derivatives --output o --right_c ,", "argument --right_c: ',' holds no number"),
    ],
)
def test_a_number_that_would_break_a_figure_is_wrong_usage(line, sentence, capsys):
    with pytest.raises(SystemExit) as raised:
        figures._parser().parse_args(line.split())
    assert raised.value.code == 2
    assert sentence in capsys.readouterr().err
