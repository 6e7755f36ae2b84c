"""Damaged ONNX files: `pytest -m slow -s tests/exports/test_onnx_fuzz.py` reads 100,000 and prints the figures."""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.exports import matching, onnx_graph
from tests.weights.test_fuzz import mutate


def _seed(*, is_raw):
    """A graph of every operator that is read, with so few weights that damage meets its nodes."""
    helper, sizes = onnx.helper, {"c": (2,), "k": (2, 3, 3, 3), "s": (2, 1, 1), "m": (4, 8), "t": (8, 4), "f": (4,)}
    arrays = [onnx.numpy_helper.from_array(np.ones(size, np.float16), name) for name, size in sizes.items()]
    arrays += [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (("mean", 127.5), ("by", 0.01))]
    shape = onnx.numpy_helper.from_array(np.array([-1, 8]))
    front = [helper.make_node("Sub", ["images", "mean"], ["x0"]), helper.make_node("Mul", ["x0", "by"], ["x"])]
    computed = [
        helper.make_node("Shape", ["n"], ["n0"]),
        helper.make_node("Constant", [], ["zero"], value=onnx.numpy_helper.from_array(np.array(0))),
        helper.make_node("Gather", ["n0", "zero"], ["n1"]),
        helper.make_node("Concat", ["n1", "zero"], ["wanted"], axis=0),
    ]
    nodes = [
        *(front if is_raw else [helper.make_node("Cast", ["images"], ["x"], to=1)]),
        helper.make_node("Conv", ["x", "k", "c"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["a", "c", "c", "c", "c"], ["b"], epsilon=1e-3),
        helper.make_node("PRelu", ["b", "s"], ["d"]),
        helper.make_node("Add", ["a", "d"], ["e"]),
        helper.make_node("Dropout", ["e"], ["n", "mask"]),
        *(computed if is_raw else [helper.make_node("Constant", [], ["wanted"], value=shape)]),
        helper.make_node("Reshape", ["n", "wanted"], ["flat"]),
        helper.make_node("MatMul", ["flat", "t"], ["g"])
        if is_raw
        else helper.make_node("Gemm", ["flat", "m"], ["g"], transB=1),
        helper.make_node("Add", ["g", "f"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "f", "f", "f", "f"], ["feature"]),
    ]
    ends = (
        [helper.make_tensor_value_info("images", 1, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("feature", 1, [1, 4])],
    )
    return helper.make_model(helper.make_graph(nodes, "small", *ends, arrays)).SerializeToString()


def _fuzz(count):
    outcomes, rng, seeds = (
        {"read": 0, "refused": 0},
        np.random.default_rng(0),
        [_seed(is_raw=is_raw) for is_raw in (False, True)],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "net.onnx")
        for _ in range(count):
            content = seeds[rng.integers(len(seeds))]
            for _ in range(rng.integers(1, 4)):
                content = mutate(content, rng, seeds[rng.integers(len(seeds))])
            path.write_bytes(content)
            try:
                graph = onnx_graph.read_graph(path)
                outcomes["read"] += 1
                # That it has as many convolutions as another network is told without tracing that one.
                matching.fit(graph._replace(sides=(64, 64)), source=path, backbone=None, convention={})
            except UserError as refused:
                outcomes["refused"] += "\n" not in str(refused)
    print(outcomes)
    assert outcomes["read"] > count / 100
    assert outcomes["refused"] == count


@pytest.mark.parametrize("count", [500, pytest.param(100_000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused(count):
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.exports.test_onnx_fuzz", str(count)]  # alone: shape checks slow it
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=3600)
    print(f"\n{count} inputs: {done.stdout}{done.stderr}")
    assert done.returncode == 0


if __name__ == "__main__":
    _fuzz(int(sys.argv[1]))
