import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.files import sweep_file

GOOD = '''"""A table.

More words.
"""
BASE = "configs/a.py"
TABLES = {"T": {"one": "faces/accuracy"}}
def rows():
    yield {"name": "first", "arg": "", "overrides": {"loss.p": 2.0, "augment.views.lr.sizes": (7, 14)}, "paper": {}}
    yield {"name": "second", "arg": "policy=aug", "overrides": {}, "paper": {"faces/accuracy": 9.5}}
'''


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "table.py").write_text(text)
        return tmp_path / "table.py"

    return write


def test_reads_what_the_file_says(written):
    sweep = sweep_file.read(written(GOOD))
    assert (sweep.title, sweep.base, list(sweep.rows)) == ("A table.", "configs/a.py", ["first", "second"])
    assert sweep.tables == {"T": {"one": "faces/accuracy"}}
    assert sweep.rows["second"].paper == {"faces/accuracy": 9.5}
    assert (sweep.rows["second"].config, sweep.published_only) == ("configs/a.py", [])
    assert sweep_file.read(written(GOOD[GOOD.index("BASE") :])).title == "table"
    assert sweep_file.read(written('"""  """\n' + GOOD[GOOD.index("BASE") :])).title == "table"


def test_arguments_of_a_run(written):
    sweep = sweep_file.read(written(GOOD))

    def arguments(name, *changes):
        return sweep_file.arguments(sweep.rows[name], seed=4, changes=changes, root="R", data_dir="D")

    assert arguments("first", "loss.p=3") == [
        *("--config", "configs/a.py", "--workdir", "R/first/seed4", "--data_dir", "D"),
        *("--config.loss.p=2.0", "--config.augment.views.lr.sizes=(7, 14)", "--config.loss.p=3", "--config.seed=4"),
    ]
    assert arguments("second")[1] == "configs/a.py:policy=aug"


def test_a_row_has_a_config_of_its_own_or_none(written):
    own = '"arg": "policy=aug", "config": "configs/c.py"'
    sweep = sweep_file.read(written(GOOD.replace('"arg": "policy=aug"', own)))
    arguments = sweep_file.arguments(sweep.rows["second"], seed=4, changes=(), root="R", data_dir="D")
    assert arguments[1] == "configs/c.py:policy=aug"
    assert sweep.rows["first"].config == sweep.base == "configs/a.py"
    sweep = sweep_file.read(written(GOOD.replace('"arg": "policy=aug"', '"arg": "", "config": None')))
    assert (sweep.published_only, sweep.rows["second"].config) == (["second"], None)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"arg": "policy=aug"', '"arg": "policy=aug", "config": None', "row second of .* has no config: it can hold"),
        ('"paper": {}}', '"paper": {}, "config": None}', "row first of .* has no config"),
        ('"arg": ""', '"arg": "", "config": 3', "whose config must be the path of a config file, or None"),
        ("BASE =", "BSE =", "table.py is no sweep file, as it defines no BASE"),
        ("def rows", "def row", "defines no rows"),
        ('"second"', '"first"', "two rows named first"),
        ('"second"', '"../second"', "names a row '../second'"),
        ('"second"', '"seco nd"', "names a row 'seco nd'"),
        ('"arg": "policy=aug", ', "", "a row is a dict of exactly arg, name, overrides, paper"),
        ('"arg": ""', '"arg": "", "seed": 1', "a row is a dict of exactly"),
        ('{"faces/accuracy": 9.5}', '{"faces/accurcy": 9.5}', "row second of .* for faces/accurcy, no column"),
        ("    yield", "    if 0: yield", "yields no row"),
        ("    yield", "    ", r"rows\(\) of .* returns None"),
        ("def rows", "rows = []\ndef other", "rows of .* must be a function"),
        ('"overrides": {}', '"overrides": None', "whose overrides must be a dict"),
        ('{"faces/accuracy": 9.5}', "None", "whose paper must be a dict"),
        ('{"faces/accuracy": 9.5}', '{"faces/accuracy": "9.5"}', "whose paper must be a dict {metric: number}"),
        ('"overrides": {}', '"overrides": {3: 4}', "whose overrides must be a dict"),
        ('"name": "second"', '"name": 3', "whose name must be a text"),
        ('"arg": ""', '"arg": None', "whose arg must be a text"),
        ('{"T": {"one": "faces/accuracy"}}', '["faces/accuracy"]', "TABLES of .* must be {title of a table: {title of"),
        ('{"one": "faces/accuracy"}', '"faces/accuracy"', "TABLES of .* must be"),
        ('{"one": "faces/accuracy"}', '{"one": ["faces/accuracy"]}', "TABLES of .* must be"),
        ('"configs/a.py"', "None", "BASE of .* is None: it must be the path"),
    ],
)
def test_a_bad_file_is_one_sentence(written, old, new, sentence):
    assert old in GOOD
    with pytest.raises(UserError, match=sentence):
        sweep_file.read(written(GOOD.replace(old, new)))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"nosuch\.py cannot be read"):
        sweep_file.read(tmp_path / "nosuch.py")


def test_what_is_no_text_is_one_sentence(tmp_path):
    (tmp_path / "latin.py").write_bytes(b"\n\n\nBASE = 'caf\xe9'\n")
    for path in (tmp_path, tmp_path / "latin.py"):
        with pytest.raises(UserError, match=r"the sweep file .* cannot be read"):
            sweep_file.read(path)


def test_an_error_of_the_file_itself_keeps_its_traceback(written):
    with pytest.raises(FileNotFoundError):
        sweep_file.read(written(GOOD + "open('/nosuch/file')\n"))


def test_seeds_are_the_folders_of_a_row(tmp_path):
    for name in ("seed10", "seed2", "seedling", "other"):
        (tmp_path / "row" / name).mkdir(parents=True)
    (tmp_path / "row" / "seed3").touch()
    sweep_file.log_of(sweep_file.folder(tmp_path, "row", 2)).touch()
    assert (tmp_path / "row" / "seed2.log").exists()
    assert sweep_file.seeds(tmp_path, "row") == [2, 10]
    assert sweep_file.seeds(tmp_path, "none") == []
