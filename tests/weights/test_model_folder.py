"""Folders of CVLface and Hugging Face: the file of weights, and the colors that a config beside it names."""

import json

import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.weights.model_folder import color_order, weights_in

YAML = "input_size: [3, 112, 112]\ncolor_space: '{}'  # of the images\nname: 'ir101'\n"


def test_the_safest_file_of_a_folder_is_taken(tmp_path):
    (tmp_path / "pretrained_model").mkdir()
    (tmp_path / "pretrained_model" / "model.pt").write_bytes(b"")
    assert weights_in(tmp_path) == str(tmp_path / "pretrained_model" / "model.pt")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert weights_in(tmp_path) == str(tmp_path / "model.safetensors")
    assert weights_in(tmp_path / "any.pth") == str(tmp_path / "any.pth")


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(UserError, match=r"holds none of model.safetensors, .*: name the file of weights with --source"):
        weights_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "order"),
    [
        ("model.yaml", YAML.format("BGR"), "bgr"),
        ("model.yaml", YAML.format("RGB"), "rgb"),
        ("model.yaml", "color_space: BGR", "bgr"),
        ("model.yaml", "inner:\n  color_space: BGR", None),
        ("pretrained_model/model.yaml", YAML.format("BGR"), "bgr"),
        ("config.json", json.dumps({"model_type": "x", "conf": {"color_space": "BGR"}}), "bgr"),
        ("config.json", json.dumps({"color_space": "RGB"}), "rgb"),
        ("config.json", json.dumps([1]), None),
        ("config.json", "{", None),
        ("config.json", "[" * 100_000, None),
        ("other.yaml", YAML.format("BGR"), None),
    ],
)
def test_colors(name, content, order, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    found = color_order(tmp_path / "model.pt")
    assert found == (None if order is None else (order, str(path)))


def test_colors_that_are_none_or_differ(tmp_path):
    (tmp_path / "model.yaml").write_text(YAML.format("HSV"))
    with pytest.raises(UserError, match="says color_space 'hsv', which is neither RGB nor BGR: say --order"):
        color_order(tmp_path / "model.pt")
    (tmp_path / "model.yaml").write_text(YAML.format("RGB"))
    (tmp_path / "config.json").write_text(json.dumps({"color_space": "BGR"}))
    with pytest.raises(UserError, match=r"model.yaml and .*config.json name different orders of colors"):
        color_order(tmp_path / "model.pt")
