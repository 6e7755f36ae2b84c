"""Operations on tokens as nodes of ONNX, several for most of them.

References: https://onnx.ai/onnx/operators/ at opset 17, which has LayerNormalization, but no Gelu and no Attention.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrfr_jax.exports.layer_graph import Node


class Step(NamedTuple):
    """A node of ONNX: operator, names of its inputs and of its result, attributes."""

    operator: str
    inputs: Sequence[str]
    output: str
    attributes: dict[str, Any]


class Steps:
    """The nodes that one operation becomes, and the tensors that they read beside results."""

    def __init__(self, node: Node):
        self.node, self.made, self.tensors = node, [], {}

    def tensor(self, name: str, value: Any) -> str:
        """Keeps a tensor under the operation's name; returns its whole name."""
        array = np.asarray(value)
        whole = f"{self.node.name}/{name}"
        self.tensors[whole] = array if array.dtype == np.int64 else array.astype(np.float32)
        return whole

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node and returns its result's name."""
        output = f"{self.node.name}/{operator.lower()}_{len(self.made)}"
        self.made.append(Step(operator, inputs, output, attributes))
        return output

    def ended(self) -> list[Step]:
        """All nodes; the last one's result has the operation's own name."""
        return [*self.made[:-1], self.made[-1]._replace(output=self.node.name)]


def _to_tokens(steps: Steps, x: str) -> None:
    flat = steps.add("Reshape", x, steps.tensor("shape", np.array([0, 0, -1])))
    steps.add("Transpose", flat, perm=[0, 2, 1])


def _prepend(steps: Steps, x: str) -> None:
    first = steps.node.arrays["first"]
    batch = steps.add("Shape", x, start=0, end=1)
    shape = steps.add("Concat", batch, steps.tensor("rest", np.array(first.shape[1:])), axis=0)
    repeated = steps.add("Expand", steps.tensor("first", first), shape)
    joined = steps.add("Concat", repeated, x, axis=1)
    steps.add("Add", joined, steps.tensor("position", steps.node.arrays["position"]))


def _linear(steps: Steps, x: str) -> None:
    arrays = steps.node.arrays
    product = steps.add("MatMul", x, steps.tensor("kernel", arrays["kernel"]))
    if "bias" in arrays:
        steps.add("Add", product, steps.tensor("bias", arrays["bias"]))


def _layer_norm(steps: Steps, x: str) -> None:
    scale, bias = (steps.tensor(name, steps.node.arrays[name]) for name in ("scale", "bias"))
    steps.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=steps.node.settings["epsilon"])


def _first(steps: Steps, x: str, *, count: int, axis: int) -> str:
    limits = {"starts": 0, "ends": count, "axes": axis}
    return steps.add("Slice", x, *(steps.tensor(name, np.array([value])) for name, value in limits.items()))


def _attention(steps: Steps, qkv: str, bias: str | None = None) -> None:
    settings = steps.node.settings
    parts = steps.add("Reshape", qkv, steps.tensor("parts", np.array([0, 0, 3, settings["heads"], -1])))
    heads = steps.add("Transpose", parts, perm=[2, 0, 3, 1, 4])
    q, k, v = (
        steps.add("Gather", heads, steps.tensor(name, np.array(n)), axis=0) for n, name in enumerate(("q", "k", "v"))
    )
    q = _first(steps, q, count=settings["queries"], axis=2)
    q = steps.add("Mul", q, steps.tensor("scale", settings["scale"]))
    logits = steps.add("MatMul", q, steps.add("Transpose", k, perm=[0, 1, 3, 2]))
    logits = steps.add("Add", logits, bias) if bias else logits
    gathered = steps.add("MatMul", steps.add("Softmax", logits, axis=-1), v)
    tokens = steps.add("Transpose", gathered, perm=[0, 2, 1, 3])
    steps.add("Reshape", tokens, steps.tensor("tokens", np.array([0, 0, -1])))


def _gelu(steps: Steps, x: str) -> None:
    share = steps.add("Erf", steps.add("Mul", x, steps.tensor("scale", 0.5**0.5)))
    twice = steps.add("Mul", x, steps.add("Add", share, steps.tensor("one", 1.0)))
    steps.add("Mul", twice, steps.tensor("half", 0.5))


def _clip(steps: Steps, x: str) -> None:
    steps.add("Clip", x, steps.tensor("least", 0.0), steps.tensor("most", 6.0))


# (steps to add to, the operation's inputs).
OPERATIONS: dict[str, Callable] = {
    "to_tokens": _to_tokens,
    "prepend": _prepend,
    "shift": lambda steps, x: steps.add("Add", x, steps.tensor("position", steps.node.arrays["position"])),
    "constant": lambda steps: steps.add("Identity", steps.tensor("value", steps.node.arrays["value"])),
    "linear": _linear,
    "layer_norm": _layer_norm,
    "attention": _attention,
    "first": lambda steps, x: _first(steps, x, count=steps.node.settings["count"], axis=1),
    "gelu": _gelu,
    "relu6": _clip,
}
