import os
import pickle
import zipfile

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.weights import tensor_files
from tests.weights import form_writers, torch_writer
from tests.weights.torch_writer import Call, Tensor

_WRITERS = [torch_writer.write_zip, torch_writer.write_legacy]
both_forms = pytest.mark.parametrize("write", _WRITERS)
_SIX = np.arange(6, dtype="f4")


def _with_attributes(tensor):
    """A tensor on which a training script hung something."""
    make = b"ctorch._utils\n_rebuild_tensor_v2\n"
    storage = torch_writer.Storage(tensor)
    arguments = (storage, 0, (6,), (1,), False, Call("collections OrderedDict", ()))
    return Call("torch._tensor _rebuild_from_type_v2", (make, b"ctorch\nTensor\n", arguments, {"decay": 0.1}))


@both_forms
def test_views_are_what_their_strides_say(write):
    table = np.arange(24, dtype="f4")
    views = {
        "transposed": Tensor(table, (3, 4), (1, 3), key="9"),
        "part": Tensor(table, (2, 2), (8, 2), 5, key="9"),
        "last": Tensor(table, (1,), (1,), 23, key="9"),
        "scalar": Tensor(table, (), (), 7, key="9"),
        "none": Tensor(table, (0, 5), (5, 1), 24, key="9"),
        "parameter": Call("torch._utils _rebuild_parameter", (Tensor(_SIX), True, {})),
        "expanded": Tensor(np.float32([3, 4]), (5, 2), (0, 1)),
        "one": Tensor(np.float32([0, 8]), (3, 4), (0, 0), 1),
        "with_attributes": _with_attributes(Tensor(_SIX)),
        "parameter_with_state": Call("torch._utils _rebuild_parameter_with_state", (Tensor(_SIX), True, {}, {"a": 1})),
    }
    found = form_writers.parse(write(views))
    np.testing.assert_array_equal(found["transposed"], table[:12].reshape(4, 3).T)
    np.testing.assert_array_equal(found["part"], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(found["last"], [23])
    for name in ("parameter", "with_attributes", "parameter_with_state"):
        np.testing.assert_array_equal(found[name], _SIX)
    np.testing.assert_array_equal(found["expanded"], [[3, 4]] * 5)
    np.testing.assert_array_equal(found["one"], np.full((3, 4), 8))
    assert (found["scalar"].shape, found["scalar"]) == ((), 7)
    assert found["none"].shape == (0, 5)
    brain = Tensor(np.array([0x3FC0, 0xC000], "<u2").view("f2"), kind="BFloat16Storage")
    np.testing.assert_array_equal(form_writers.parse(write({"b": brain}))["b"], np.array([1.5, -2], "f4"))


@both_forms
@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({"epoch": 3, "state_dict": {"fc.weight": _SIX}}, ["fc.weight"]),
        ({"a": {"b": {"w": _SIX}, "c": {"w": _SIX}}}, ["b.w", "c.w"]),
        ({"w": _SIX, "a": {"w": _SIX}}, ["w", "a.w"]),
        ({"model": {"w": _SIX}, "optimizer": {"state": {0: {"momentum": _SIX}}, "groups": [_SIX]}}, ["w"]),
        (Call("collections OrderedDict", ([["v", _SIX], ["w", _SIX]],)), ["v", "w"]),
        ({"net": {"w": _SIX}, "best": np.array(np.inf), "loss": np.array(np.nan, "f4")}, ["best", "loss", "net.w"]),
        ({"model": {"w": _SIX, "n": np.array(1)}, "callbacks": {"best": np.array(0.5)}}, ["w", "n"]),
    ],
)
def test_names_of_nested_dicts_are_joined_where_they_differ(write, value, names):
    assert list(form_writers.parse(write(value))) == names


@both_forms
def test_what_training_leaves_beside_tensors_has_no_effect(write):
    beside = {
        "hyper_parameters": Call("argparse Namespace", ()),
        "milestones": Call("collections Counter", ({"8": 1},)),
        "set": Call("__builtin__ set", ([1, 2],)),
        "path": Call("pathlib PosixPath", ("a", "b")),
        "score": Call("numpy.core.multiarray scalar", (Call("numpy dtype", ("f8", 0, 1)), b"U\x08" + bytes(8))),
        "rate": 0.1,
        "attributes": b"cpytorch_lightning.utilities.parsing\nAttributeDict\n)\x81(X\1\0\0\0aNu}b",
        "groups": Call("collections defaultdict", (b"c__builtin__\nlist\n",)),
        "note": "\u20ac",
    }
    assert list(form_writers.parse(write({"state_dict": {"w": _SIX}, **beside}))) == ["w"]


class _Malice:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_a_malicious_file_is_refused_by_name_and_runs_nothing(tmp_path):
    victim = tmp_path / "victim"
    for malice, name in (
        (_Malice(os.system, f"touch {victim}"), f"{os.system.__module__}.system"),
        (_Malice(victim.touch), "getattr"),
        (_Malice(eval, f"open({str(victim)!r}, 'w')"), "eval"),
        (_Malice(np.load, str(victim)), "numpy.load"),
        (_Malice(__import__("subprocess").run, ["touch", str(victim)]), "(subprocess|commands).run"),
    ):
        pickled = pickle.dumps(malice, 2)
        inside = [write({"w": _SIX, "x": pickled[2:-1]}) for write in _WRITERS]
        for content in (pickled, pickle.dumps(malice, 4), *inside):
            (tmp_path / "x.pth").write_bytes(content)
            with pytest.raises(UserError, match=rf"x\.pth wants to use .*{name}.* \(nothing was run\)"):
                tensor_files.read_tensors(str(tmp_path / "x.pth"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


_LIES = [
    ({"w": Tensor(_SIX, (7,))}, r"gives w the shape \(7,\), which its storage of 6 elements does not hold"),
    ({"w": Tensor(_SIX, (2, 3), (4, 1))}, r"gives w the shape \(2, 3\)"),
    ({"w": Tensor(_SIX, (3,), (1,), 4)}, r"gives w the shape \(3,\)"),
    ({"w": Tensor(_SIX, (0,), (1,), 7)}, r"gives w the shape \(0,\)"),
    ({"w": Tensor(_SIX, (2**30,), (0,))}, "would take 4294967296 bytes, over 2 times its own"),
    ({"w": Tensor(_SIX, (2, 2), (0, 6))}, r"gives w the shape \(2, 2\), which its storage of 6 elements does not hold"),
    ({"w": Call("torch._tensor _rebuild_from_type_v2", (1, 2, (), {}))}, "makes a tensor with attributes in a way"),
    ({"w": Tensor(_SIX, (2**40, 2**40))}, "gives w a shape that no tensor has"),
    ({"w": Tensor(_SIX, (True,), (1,))}, "gives w a shape that no tensor has"),
    ({"w": Tensor(_SIX, (-6,), (1,))}, "gives w a shape that no tensor has"),
    ({"w": Tensor(_SIX, (6,), (-1,), 5)}, "gives w strides that no tensor has"),
    ({"w": Tensor(_SIX, (6,), (1,), -1)}, "gives w strides that no tensor has"),
    ({"w": Tensor(_SIX, (6,), (1, 1))}, "gives w strides that no tensor has"),
    ({"w": Tensor(_SIX, (6,), (1,), "0")}, "gives w strides that no tensor has"),
    ({"w": Tensor(_SIX, (6,), ("1",))}, "gives w strides that no tensor has"),
    ({"w": Tensor(_SIX, length=5)}, "says that the storage of w has 5 elements|gives its storage 0 two sizes"),
    ({"w": Tensor(_SIX, kind="DoubleStorage")}, "says that the storage of w has 6 elements|truncated"),
    ({"w": Tensor(_SIX, kind="ComplexFloatStorage")}, "wants to use torch.ComplexFloatStorage"),
    ({"w": Tensor(_SIX, key="../1")}, "describes its storage b'../1' in two ways, or not by a number"),
    ({"v": Tensor(_SIX, key="1"), "w": Tensor(_SIX, key="1", kind="IntStorage")}, "describes its storage b'1' in two"),
    ({f"w{k}": Tensor(np.ones(999, "f4"), key="1") for k in range(9)}, "would take 35964 bytes"),
    ({"w": b"(X\7\0\0\0storageNtQ"}, "refers to something else than a storage"),
    ({"w": Call("torch._utils _rebuild_tensor_v2", (1, 2))}, "makes a tensor in a way"),
    ({"w": Call("collections OrderedDict", (3,))}, "makes a dict in a way"),
    ({"w": Call("collections OrderedDict", ([[1, 2]],))}, "makes a dict in a way"),
    ({"w": b"NNR"}, "calls a value in a way"),
    ({"w": b"NNb"}, "gives a value a state that no tensor has"),
    ({"w": 1, "v": [_SIX]}, "holds no tensors by name"),
    ([_SIX], "holds no tensors by name"),
    ({"a": {"b.c": _SIX}, "a.b": {"c": _SIX}}, "holds two tensors of one name"),
    (b"}(X\1\0\0\0wNX\1\0\0\0wNu", "holds b'w' twice in one dict"),
]
_deep = {"w": _SIX}
for _ in range(9):
    _deep = {"a": _deep}
_LIES.append((_deep, "holds dicts more than 8 deep"))


@both_forms
@pytest.mark.parametrize(("value", "sentence"), _LIES)
def test_a_checkpoint_that_lies_is_refused(write, value, sentence):
    with pytest.raises(UserError, match=rf"^x\.file .*({sentence})"):
        form_writers.parse(write(value))


@both_forms
def test_dicts_that_hold_themselves_are_searched_once(write):
    value = b"}q\0(X\1\0\0\0ah\0X\1\0\0\0b" + b"".join([b"h\0"]) + b"u"
    with pytest.raises(UserError, match="holds no tensors by name"):
        form_writers.parse(write(value))


def test_an_entry_shorter_than_the_archives_list_says_is_refused():
    good = torch_writer.write_zip({"w": Tensor(_SIX, (7,), length=7)})
    place = good.rindex(b"PK\1\2", 0, good.rindex(b"archive/data/0"))
    with pytest.raises(UserError, match="'archive/data/0' has another size than its list says"):
        form_writers.parse(good[: place + 24] + (28).to_bytes(4, "little") + good[place + 28 :])


def test_an_archive_that_was_packed_anew_is_read():
    found = form_writers.parse(torch_writer.write_zip({"w": _SIX}, compression=zipfile.ZIP_DEFLATED))
    np.testing.assert_array_equal(found["w"], _SIX)


_ONE = {"w": _SIX}
_ZERO_SUM = torch_writer.write_zip(_ONE).replace(_SIX.tobytes(), bytes(24))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (torch_writer.write_zip(_ONE, without=["0"]), "lacks the storage 0 of w"),
        (torch_writer.write_zip(_ONE, byteorder="big"), "comes from a big-endian machine"),
        (torch_writer.write_zip(_ONE, more={"b/data.pkl": b""}), "with 2 entries"),
        (torch_writer.write_zip(_ONE, more={"archive/constants.pkl": b""}), "is a TorchScript program"),
        (torch_writer.write_zip(_ONE, more={"archive/data.pkl": bytes(2**22 + 1)}), "a pickle of 4194305 bytes"),
        (torch_writer.zip_of({"a/b": b""}), "is a zip archive with 0 entries"),
        (_ZERO_SUM, "damaged as a zip archive in 'archive/data/0'"),
        (torch_writer.write_legacy(_ONE, magic=5), "is a pickle, but none of PyTorch's"),
        (torch_writer.write_legacy(_ONE, protocol=5), "has another protocol of PyTorch"),
        (torch_writer.write_legacy(_ONE, view=("1", 0, 6)), "something else than a storage beside its pickle"),
        (torch_writer.write_legacy(_ONE, is_little=False), "comes from a big-endian machine"),
        (torch_writer.write_legacy(_ONE, lengths={"0": 7}), "gives its storage 0 two sizes"),
        (torch_writer.write_legacy(_ONE).replace(b"](X\1\0\0\0000", b"](X\1\0\0\0001"), "lists other storages"),
    ],
)
def test_a_container_that_lies_is_refused(content, sentence):
    with pytest.raises(UserError, match=rf"^x\.file .*{sentence}"):
        form_writers.parse(content)
