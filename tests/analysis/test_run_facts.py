import pytest

from lrfr_jax.analysis import run_facts
from lrfr_jax.errors import UserError
from tests.analysis.made_up_sweep import evaluation, write_run

LOG = """sweep: python -m lrfr_jax.main --config a.py
12:00:00 faces: 96 images of 12 identities; 8 images a step on 2 devices (NVIDIA H100); steps 1 to 24
sweep: status -9 after 3590 s on x86_64, 16 CPU cores
sweep: python -m lrfr_jax.main --config a.py
12:00:00 faces: 96 images of 12 identities; two views of 8 images a step on 2 devices (NVIDIA H100); 12 steps an epoch
sweep: status 0 after 130 s on x86_64, 2 CPU cores
"""


def test_facts_come_from_config_evaluation_and_log(tmp_path):
    workdir = write_run(tmp_path, "a", 5, evaluation(0.9, 0.5, step=24), config={}, log=LOG)
    write_run(tmp_path, "a", 5, evaluation(0.9, 0.5, step=9))
    assert run_facts.facts_of(workdir) == [
        *("5", "24", "1 h 02 min", "2 x NVIDIA H100", "x86_64, 16 CPU cores, x86_64, 2 CPU cores")
    ]
    assert run_facts.commands_of(workdir) == ["python -m lrfr_jax.main --config a.py"]


def test_what_is_not_known_is_a_dash(tmp_path):
    assert run_facts.facts_of(tmp_path / "none") == ["-"] * 5
    assert run_facts.commands_of(tmp_path / "none") == []
    assert run_facts.config_of(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_config_is_told(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json .*: leave that run out"):
        run_facts.config_of(tmp_path)


HR = {"sizes": [], "ratios": [], "share": 0.0, "weight": 0.5}
VARY = ("hr.weight", "lr.operator", "lr.ratios", "lr.share", "lr.sizes", "lr.source", "lr.weight")


def test_fields_that_differ_by_the_names_of_today():
    configs = {
        "a": {"seed": 0, "loss": {"p": 1.0, "scale": 48}, "augment": {"sizes": [], "ratios": []}},
        "b": {
            "seed": 1,
            "loss": {"p": 2.0, "scale": 48, "new": None},
            "augment": {"views": {"hr": HR, "lr": HR | {"sizes": [7, 14]}}},
        },
    }
    assert run_facts.differing_fields(configs) == [
        ["run", *(f"augment.views.{field}" for field in VARY), "loss.p"],
        ["a", "1.0", "-", "-", "-", "-", "-", "-", "1.0"],
        ["b", "0.5", "bicubic", "none", "0.0", "7, 14", "first", "0.5", "2.0"],
    ]
    assert run_facts.as_text(configs["b"]).splitlines()[1:3] == ["loss.p = 2.0", "loss.scale = 48"]
