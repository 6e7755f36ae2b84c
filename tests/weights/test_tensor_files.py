import json
import pathlib
import re
import struct

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.weights import tensor_files
from tests.weights import form_writers

WEIGHTS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"
needs_weights = pytest.mark.skipif(not WEIGHTS.exists(), reason="needs weights that are not public")


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("form", form_writers.FORMS)
def test_every_format_gives_every_type_and_shape(form, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "conv.weight": rng.normal(size=(4, 3, 2, 5)).astype("f4"),
        "bn.bias": np.arange(3, dtype="f2") / 3,
        "fc": rng.normal(size=(2, 7)),
        "counter": np.array([2**40]),
        "kind": np.array([[True], [False]]),
        "byte": np.array([[0, 255]], "u1"),
        "small": np.array([-1, 1], "i4"),
        "empty": np.zeros((0, 3), "f4"),
    }
    path = tmp_path / "weights.any"  # the ending says nothing
    path.write_bytes(form_writers.FORMS[form](arrays))
    assert_same(
        tensor_files.read_tensors(str(path)),
        {k: v.astype("f4") if v.dtype.kind == "f" else v for k, v in arrays.items()},
    )


@needs_weights
def test_mxnet_weights_are_those_of_the_npz_beside_them():
    with np.load(WEIGHTS / "insightface_mobilefacenet_y1.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name in ("insightface_mobilefacenet_y1-0000.params", "insightface_mobilefacenet_y1.npz"):
        assert_same(tensor_files.read_tensors(str(WEIGHTS / name)), arrays)


@needs_weights
def test_a_legacy_checkpoint_gives_its_state_dict():
    found = tensor_files.read_tensors(str(WEIGHTS / "mobilefacenet_xiaoccer_068.ckpt"))
    assert len(found) == 333
    assert found["conv1.conv.weight"].shape == (64, 3, 3, 3)
    assert found["conv1.bn.num_batches_tracked"].shape == ()
    assert found["conv1.bn.num_batches_tracked"].dtype == np.int64
    variances = [array for name, array in found.items() if name.endswith("running_var")]
    assert len(variances) == 50
    assert all((array > 0).all() for array in variances)


@pytest.mark.parametrize("form", form_writers.FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_value_that_is_not_finite_is_refused_by_its_tensors_name(form, value):
    dtype = "f8" if value == 1e300 else "f4"
    content = form_writers.FORMS[form]({"good": np.ones(3), "bad": np.array([1, value], dtype)})
    with pytest.raises(UserError, match=r"^x\.file holds values in bad that are not finite"):
        form_writers.parse(content)


@pytest.mark.parametrize("form", form_writers.FORMS)
def test_a_file_cut_anywhere_is_refused(form):
    content = form_writers.FORMS[form]({"a.weight": np.ones((2, 3), "f4"), "b": np.arange(4)})
    for length in [*range(0, len(content), 7), len(content) - 1]:
        with pytest.raises(UserError, match=r"^x\.file .*(truncated|damaged|is none of the weight files|too short)"):
            form_writers.parse(content[:length])
    with pytest.raises(UserError, match=r"^x\.file .*(damaged|truncated)"):
        form_writers.parse(content + b"\0")


@pytest.mark.parametrize("form", form_writers.FORMS)
def test_a_name_that_could_not_be_shown_is_refused(form):
    for name in ("a\x1b[2J", "x" * 301):
        with pytest.raises(UserError, match="has a tensor whose name is empty, over 300 characters long or not print"):
            form_writers.parse(form_writers.FORMS[form]({name: np.ones(2)}))


def test_files_of_no_known_format_are_named(tmp_path):
    for content in (b"", b"\x93NUMPY", b"ustar" * 100, b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(UserError, match=re.escape(f"{tmp_path}/x is none of the weight files")):
            tensor_files.read_tensors(str(tmp_path / "x"))
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UserError, match=f"{path} cannot be read"):
            tensor_files.read_tensors(str(path))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\n<!DOCTYPE html><title>Google Drive - Virus scan warning</title>", "is a web page: the download asked"),
        (b"<html><head>Quota exceeded", "is a web page: the download asked something or was refused"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0f", "is a pointer of Git LFS and not the file"),
    ],
)
def test_what_a_download_left_instead_is_told(content, sentence):
    with pytest.raises(UserError, match=rf"^x\.file {sentence}"):
        form_writers.parse(content)


def _safetensors(header, data=bytes(8)):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def _entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_safetensors_hold_bfloat16_and_text_beside_tensors():
    values = np.array([0x3FC0, 0xC000, 0, 0x4040], "<u2")
    header = {"__metadata__": {"format": "pt"}, "b": _entry(4, 8, (2,), "BF16"), "a": _entry(0, 4, (1, 2), "BF16")}
    found = form_writers.parse(_safetensors(header, values.tobytes()))
    assert_same(found, {"a": np.array([[1.5, -2]], "f4"), "b": np.array([0, 3], "f4")})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (struct.pack("<Q", 2**62) + b"{}", "has a header of 4611686018427387904 bytes"),
        (struct.pack("<Q", 2**20) + b"{}", "truncated: it ends inside its header"),
        (_safetensors(b'{"a":' * 100_000), "no JSON"),
        (_safetensors(b'{"a": 1' + b"0" * 5000 + b"}"), "no JSON"),
        (_safetensors(b"{\xff}"), "no JSON"),
        (_safetensors(b'{"a": {}, "a": {}}'), "same name twice"),
        (_safetensors({"a": 3}), "describes a in its header otherwise"),
        (_safetensors({"a": _entry() | {"more": 1}}), "describes a in its header otherwise"),
        (_safetensors({"a": _entry(dtype="F8_E4M3")}), "holds a of type F8_E4M3"),
        (_safetensors({"a": _entry(shape=(3,))}), r"gives a the shape \[3\], which does not fit its 8 bytes"),
        (_safetensors({"a": _entry(shape=(-2, -1))}), "gives a a shape that no tensor has"),
        (_safetensors({"a": _entry(shape=(0, 2**40, 2**40), end=0)}), "gives a a shape that no tensor has"),
        (_safetensors({"a": _entry(shape=(1,) * 9)}), "gives a a shape that no tensor has"),
        (_safetensors({"a": _entry(), "b": _entry()}), "keeps b at byte 0, not where"),
        (_safetensors({"a": _entry(4, 12)}, bytes(12)), "keeps a at byte 4, not where"),
        (_safetensors({"a": _entry(0, 2**40, (2**38,))}), "has 8 bytes of tensors, but its header describes"),
        (_safetensors({"a": _entry()}, bytes(9)), "has 9 bytes of tensors, but its header describes 8"),
        (_safetensors({}, b""), "holds no tensors"),
    ],
)
def test_safetensors_that_lie_are_refused(content, sentence):
    with pytest.raises(UserError, match=rf"^x\.file .*{sentence}"):
        form_writers.parse(content)
