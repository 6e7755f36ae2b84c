"""Every row of every sweep is a run that its config file knows; the published numbers agree among the tables."""

import pathlib
import statistics

import jax
import jax.numpy as jnp
import pytest
from absl import flags
from ml_collections import config_flags

from lrfr_jax.files import sweep_file
from lrfr_jax.objective import distances, views
from lrfr_jax.run import experiment

ROOT = pathlib.Path(__file__).resolve().parent.parent
SWEEPS = sorted(path.stem for path in (ROOT / "configs/sweeps").glob("*.py") if path.stem != "__init__")
PAPER = ["table4", "table5", "table6"]


def read(name):
    return sweep_file.read(ROOT / "configs/sweeps" / f"{name}.py")


@pytest.fixture
def config_of(monkeypatch):
    """Returns the config that `lrfr_jax.main` would have for a row: its own flags parse the row's arguments."""
    monkeypatch.chdir(ROOT)

    def parse(sweep, row):
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        for name in ("workdir", "data_dir"):
            flags.DEFINE_string(name, None, "", flag_values=values)
        words = ["main", *sweep_file.arguments(sweep, row, seed=3, changes=(), root="runs", data_dir="data")]
        monkeypatch.setattr("sys.argv", words)  # where config_flags looks for --config.field
        values(words)
        assert (values.workdir, values.data_dir) == (f"runs/{row.name}/seed3", "data")
        return values.config

    return parse


def check_resolutions(settings):
    sizes = {key: settings[key] for key in ("sizes", "ratios")}
    rng = jax.eval_shape(jax.random.key, 0)
    jax.eval_shape(lambda rng: views.sample_resolutions(rng, 4, **sizes), rng)


def check_distance(settings):
    embeddings = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    kind = {key: settings[key] for key in ("distance", "p", "reduction")}
    jax.eval_shape(lambda x, y: distances.pair_distance(x, y, **kind), embeddings, embeddings)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_row_is_a_run_of_its_base(name, config_of):
    sweep = read(name)
    configs = set()
    for row in sweep.rows.values():
        config = config_of(sweep, row)
        assert config.seed == 3
        for field, value in row.overrides.items():
            group, key = field.split(".")
            assert config[group][key] == value
        if row.arg == "policy=none":
            assert (config.augment.sizes, config.loss.distance_weight) == ((), 0)
        else:
            check_resolutions(config.augment)
            check_distance(config.loss)
        configs.add(config.to_json())
    assert len(configs) == len(sweep.rows), "two rows are the same run"


def test_a_row_resolves_to_a_run(config_of):
    sweep = read("finetune_study")
    config = config_of(sweep, sweep.rows["maug_l2"])
    config.model.update({"backbone": "resnet18", "width": 0.0625})
    experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)


@pytest.mark.parametrize("name", SWEEPS)
def test_docstring_holds_the_commands(name):
    text = (ROOT / "configs/sweeps" / f"{name}.py").read_text()
    for command in (f"launch/sweep.py configs/sweeps/{name}.py", f"analysis.tables --sweep configs/sweeps/{name}.py"):
        assert f"python {'-m lrfr_jax.' if 'tables' in command else ''}{command}" in text


def test_rows_of_one_name_are_one_run_with_the_same_published_numbers(config_of):
    configs, numbers = {}, {}
    for sweep in map(read, PAPER):
        for row in sweep.rows.values():
            config = config_of(sweep, row).to_json()
            assert configs.setdefault(row.name, config) == config
            for metric, number in row.paper.items():
                assert numbers.setdefault((row.name, metric), number) == number
    assert len(configs) == 10 + 5 + 6


def test_published_means_are_means():
    distances = "scface_d1/rank1+scface_d2/rank1+scface_d3/rank1"
    for name in ("table4", "table6"):
        for row in read(name).rows.values():
            mean = statistics.fmean(row.paper[metric] for metric in distances.split("+"))
            assert row.paper[distances] == pytest.approx(mean, abs=0.11), row.name


def test_some_published_numbers():
    assert read("table4").rows["aug_l2"].paper["lfw/accuracy"] == 98.50
    assert read("table5").rows["maug_logexp1_lambda5"].paper["xqlfw/accuracy"] == 92.45
    row = read("table6").rows["maug_logexp1_ratios_1_1_0"]
    assert (row.paper["scface_d1/rank1"], row.overrides["augment.ratios"]) == (73.8, (1.0, 1.0, 0.0))
