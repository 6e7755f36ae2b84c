"""What the devices send each other in a compiled program, and the least that a training step could do with."""

import math
import re
from collections import Counter

import jax
from jaxtyping import PyTree

# Bytes of an element, by the names of XLA's types.
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
BYTES |= {"s64": 8, "u64": 8, "f64": 8}
# Bytes that each of n devices sends, as multiples of the result's, on a ring (which is the least, too).
SENT = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: n - 1,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
}
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(SENT)})(-start)?\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
# Groups are listed, {{0,1},{2,3}}, counted, [groups,members]<=..., or axes of a mesh, mesh['a'=4,'b'=2] {'b'}.
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_AXES = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")


def of_program(text: str) -> dict[str, float | int]:
    """Counts the bytes that one device sends in one run of a compiled program.

    Args:
      text: what `compiled.as_text()` gave. A collective within a loop counts once; a training step has none there.

    Returns:
      Bytes by kind of collective.
    """
    sent = Counter()
    for line in text.splitlines():
        found = _COLLECTIVE.search(line)
        if not found:
            continue
        result, kind, is_start, rest = found.groups()
        arrays = [_bytes(name, sizes) for name, sizes in _ARRAY.findall(result)]
        if is_start and kind != "all-reduce":
            arrays = arrays[len(arrays) // 2 :]  # the first half are the operands
        members = _members(rest)
        if members > 1:
            sent[kind] += SENT[kind](members) * sum(arrays)
    return dict(sent)


def _bytes(name: str, sizes: str) -> int:
    return BYTES[name] * math.prod(int(size) for size in sizes.split(",") if size)


def _members(attributes: str) -> int:
    """Devices of a group."""
    if found := _LISTED.search(attributes):
        return found[1].count(",") + 1
    if found := _COUNTED.search(attributes):
        return int(found[1])
    if found := _AXES.search(attributes):
        lengths = dict(axis.split("=") for axis in found[1].split(","))
        return math.prod(int(lengths[axis]) for axis in found[2].split(","))
    return 2  # a permutation has pairs in place of groups


def least_of_step(
    backbone: PyTree, *, rows: int, dim: int, images: int, data: int, model: int
) -> dict[str, float | int]:
    r"""Bytes that one device must send in a training step: each gradient once, each embedding once.

    Every device needs the sum of the backbone's gradients over all devices; each of the `data` groups its share of the
    centers' gradients over the groups; each of the `model` shards the embeddings of its group, and each device their
    gradient, summed over the shards.

    Args:
      backbone: its parameters, or their shapes.
      rows: class centers.
      dim: length of a feature.
      images: of all views.
      data, model: axes of the mesh.

    Returns:
      'gradients' and 'embeddings'.
    """
    devices = data * model
    parameters = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(backbone))
    centers = BYTES["f32"] * rows * dim / model
    embeddings = BYTES["f32"] * images * dim / data
    reduce, gather = SENT["all-reduce"], SENT["all-gather"]
    return {
        "gradients": reduce(devices) * parameters + reduce(data) * centers,
        "embeddings": 2 * gather(model) * embeddings,
    }
