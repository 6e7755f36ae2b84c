import json

import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.packs import class_names


def _metadata(features):
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def test_the_schema_names_the_classes_of_a_column():
    metadata = _metadata({"label": {"names": ["Ann", "Bob"], "_type": "ClassLabel"}, "age": {"_type": "Value"}})
    assert class_names.of_schema(metadata, "label") == ["Ann", "Bob"]
    assert class_names.of_schema(metadata, "age") is None


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {b"huggingface": b"\xff{"},
        {b"huggingface": b"[" * 100_000},
        {b"huggingface": b"[1]"},
        {b"huggingface": b"3"},
        _metadata({"label": ["ClassLabel"]}),
        _metadata({"label": {"names": "ab", "_type": "ClassLabel"}}),
        _metadata({"label": {"names": [[]], "_type": "ClassLabel"}}),
    ],
)
def test_other_metadata_name_nothing(metadata):
    assert class_names.of_schema(metadata, "label") is None


def _readme(tmp_path, info):
    (tmp_path / "README.md").write_text(f"---\n{info}\n---\n# Faces\n")
    return str(tmp_path / "data" / "train.parquet")


def _config(names, name="x"):
    return (
        f"- config_name: {name}\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names: {names}"
    )


def test_the_readme_names_them_in_the_order_of_their_numbers(tmp_path):
    path = _readme(tmp_path, f"dataset_info:\n{_config({str(number): f'p{number}' for number in (10, 2, *range(2))})}")
    assert class_names.of_readme(path, "label") is None  # as 3 to 9 are missing
    path = _readme(tmp_path, f"dataset_info:\n{_config({str(number): f'p{number}' for number in range(11)[::-1]})}")
    assert class_names.of_readme(path, "label") == [f"p{number}" for number in range(11)]
    path = _readme(tmp_path, f"dataset_info:\n{_config(['Ann', 'Bob'])}\n{_config({'0': 'Ann', '1': 'Bob'}, 'y')}")
    assert class_names.of_readme(path, "label") == ["Ann", "Bob"]
    assert class_names.of_readme(path, "age") is None


@pytest.mark.parametrize("text", ["license: mit", "dataset_info:", "dataset_info: [3, {features: 5}, {features: [7]}]"])
def test_a_readme_without_names_names_nothing(tmp_path, text):
    assert class_names.of_readme(_readme(tmp_path, text), "label") is None
    assert class_names.of_readme(str(tmp_path / "a/b/c/d/x.parquet"), "label") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dataset_info: [", "begins with YAML that cannot be read: "),
        ("dataset_info: " + "[" * 5000, "begins with YAML that cannot be read: "),
        ("- dataset_info", "begins with YAML that cannot be read: "),
        ("dataset_info: !!python/object/apply:os.system [exit 3]", "begins with YAML that cannot be read: "),
        (f"dataset_info:\n{_config(['Ann'])}\n{_config(['Bob'], 'y')}", "names the classes of label in several ways"),
    ],
)
def test_a_readme_that_cannot_be_followed_is_told(tmp_path, text, sentence):
    with pytest.raises(UserError, match=f"README.md {sentence}"):
        class_names.of_readme(_readme(tmp_path, text), "label")
