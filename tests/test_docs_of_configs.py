"""docs/configs.md says every field of every config, its value in the paper's recipe, and whether it may change."""

import importlib
import inspect
import json
import pathlib
import re

import pytest
from flax.traverse_util import flatten_dict

from configs import common
from lrfr_jax.evals import protocols
from lrfr_jax.objective.terms import TERMS
from lrfr_jax.run import workdir
from lrfr_jax.run.terms import COMMON

ROOT = pathlib.Path(common.__file__).parent.parent
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "common"))
CONFIGS += sorted(f"systems.{path.stem}" for path in (ROOT / "configs/systems").glob("*.py") if path.stem != "__init__")
# | `field` | meaning | range | `value` | on resume |
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \| (.*?) \| (?:`([^`|]+)` )?\| (\w+) \|$", re.MULTILINE)
TEXT = (ROOT / "docs/configs.md").read_text()
DOCUMENTED = {field: (meaning, value, on_resume) for field, meaning, _, value, on_resume in ROW.findall(TEXT)}
WORDS = {"free": workdir.FREE, "yes": workdir.WATCHING, "ahead": workdir.AHEAD}


def fields_of(name):
    plain = json.loads(importlib.import_module(f"configs.{name}").get_config(None).to_json())
    sets = plain.pop("evals")
    views, terms, parts = plain["augment"].pop("views"), plain.pop("terms"), plain.pop("parts")
    fields = flatten_dict(plain, sep=".")
    fields |= {f"parts.NAME.{key}": value for entry in parts.values() for key, value in entry.items()}
    # The numbers of a term have a table of their own.
    fields |= {f"terms.NAME.{key}": entry[key] for entry in terms.values() for key in COMMON}
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
    of_entries = {f"terms.NAME.{key}" for key in COMMON} | {f"parts.NAME.{key}" for key in ("part", "of", "channels")}
    assert DOCUMENTED.keys() == fields.keys() | of_heads | of_entries | {f"evals.SET.{key}" for key in settings}


@pytest.mark.parametrize("name", TERMS)
def test_every_term_is_told_with_its_numbers(name):
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| [^|]+ \| ?([^|]*)\|$", TEXT, re.MULTILINE)
    (told,) = [numbers for names, numbers in rows if f"`{name}`" in names]
    told += next(numbers for names, numbers in rows if f"`{told.split('`')[1]}`" in names) if "those of" in told else ""
    assert {number for number in inspect.signature(TERMS[name]).parameters if f"`{number}`" not in told} == set()


def test_every_system_is_told():
    for name in CONFIGS:
        assert not name.startswith("systems.") or f"`{name.replace('.', '/')}.py" in TEXT


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
