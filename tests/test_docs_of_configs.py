"""docs/configs.md says every field of every config, its value in the paper's recipe, and whether it may change."""

import importlib
import json
import pathlib
import re

import pytest
from flax.traverse_util import flatten_dict

from configs import common
from lrfr_jax.evals import protocols
from lrfr_jax.run import workdir

ROOT = pathlib.Path(common.__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "common"))
CONFIGS += sorted(f"systems.{path.stem}" for path in (ROOT / "configs/systems").glob("*.py") if path.stem != "__init__")
# | `field` | meaning | range | `value` | on resume |
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \| (.*?) \| (?:`([^`|]+)` )?\| (\w+) \|$", re.MULTILINE)
DOCUMENTED = {
    field: (meaning, value, on_resume)
    for field, meaning, _, value, on_resume in ROW.findall((ROOT / "docs/configs.md").read_text())
}
WORDS = {"free": workdir.FREE, "yes": workdir.WATCHING, "ahead": workdir.AHEAD}


def fields_of(name):
    plain = json.loads(importlib.import_module(f"configs.{name}").get_config(None).to_json())
    sets = plain.pop("evals")
    views = plain["augment"].pop("views")
    fields = flatten_dict(plain, sep=".")
    fields |= {f"augment.views.VIEW.{key}": value for rule in views.values() for key, value in rule.items()}
    return fields, {f"evals.SET.{key}": sets[name][key] for name in sets for key in sets[name]}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_of_every_config_is_told(name):
    fields, settings = fields_of(name)
    assert (fields | settings).keys() - DOCUMENTED.keys() == set()


def test_nothing_else_is_told():
    fields, _ = fields_of("quickstart")
    settings = set().union(*map(protocols.settings_of, protocols.KIND_RULES))
    of_heads = {f"head.{field}" for numbers in common.HEADS.values() for field in numbers}
    assert DOCUMENTED.keys() == fields.keys() | of_heads | {f"evals.SET.{key}" for key in settings}


def test_every_system_is_told():
    text = (ROOT / "docs/configs.md").read_text()
    for name in CONFIGS:
        assert not name.startswith("systems.") or f"`{name.replace('.', '/')}.py" in text


def test_whether_a_field_may_change_is_what_the_code_allows():
    for field, (_, _, on_resume) in DOCUMENTED.items():
        allowed = [word for word, names in WORDS.items() if workdir.may_change(field, names)]
        assert [on_resume] == (allowed or ["no"]), field
    for name in sum(WORDS.values(), ()):  # none that no config has
        assert any(workdir.may_change(field, (name,)) for field in DOCUMENTED), name


def test_values_are_those_of_the_paper_recipe():
    fields, settings = fields_of("casia_r34")
    for field, value in (fields | settings).items():
        assert DOCUMENTED[field][1] == json.dumps(value), field
