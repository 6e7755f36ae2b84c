"""Parts: small modules with parameters of their own that read a tap of the backbone and are themselves read by name."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from lrfr_jax.models import layers


class Hint(nn.Module):
    """1x1 convolution and BatchNorm of maps, by the statistics of the batch: it lives in training alone.

    References:
      gist-ailab/feature-similarity-KD, whose student is compared with its teacher behind one of them for each stage.
    """

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, maps: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width out"]:
        (channels,) = self.channels
        maps = layers.at_least_float32(maps)
        maps = nn.Conv(channels, (1, 1), use_bias=False, dtype=maps.dtype, name="conv")(maps)
        return layers.batch_norm(True, dtype=maps.dtype.name, name="bn")(maps)


class Perceptron(nn.Module):
    """Linear layers with a ReLU between two of them: from a feature to another."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "batch dim"]) -> Float[Array, "batch out"]:
        x = layers.at_least_float32(x)
        for number, size in enumerate(self.channels):
            x = nn.relu(x) if number else x
            x = nn.Dense(size, kernel_init=layers.linear_init, dtype=x.dtype, name=f"linear{number + 1}")(x)
        return x


# name -> module of its output channels, layer by layer
PARTS: Mapping[str, Callable[[tuple[int, ...]], nn.Module]] = {"hint": Hint, "perceptron": Perceptron}
# How many layers each may have.
LAYERS = {"hint": (1, 1), "perceptron": (1, 100)}
# How many axes that has what they read, and what it is called.
READS = {Hint: (4, "maps"), Perceptron: (2, "features")}


@dataclasses.dataclass(frozen=True)
class Part:
    """What a part is and what it reads.

    Attributes:
      module: maps or features -> maps or features.
      of: a tap of the backbone, or another part.
    """

    module: nn.Module
    of: str

    def init(self, rng: PRNGKeyArray, read: jax.ShapeDtypeStruct) -> PyTree:
        """Draws its parameters for what it reads, without statistics: those of the batch are used."""
        return self.module.init(rng, jnp.zeros(read.shape, read.dtype))["params"]

    def apply(self, params: PyTree, read: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        """Its value, of the whole batch."""
        return self.module.apply({"params": params}, read, mutable=["batch_stats"])[0]


def check_reads(name: str, part: Part, read: PyTree) -> None:
    """Raises `ValueError` where a part is to read what it cannot: maps, a feature, or the maps of several blocks.

    Args:
      name, part: of a config.
      read: shape of what it reads, or several such.
    """
    axes, wanted = READS[type(part.module)]
    shape = getattr(read, "shape", None)
    if shape is None or len(shape) != axes:
        found = f"{len(read)} maps" if shape is None else f"the shape {list(shape[1:])}"
        raise ValueError(f"parts.{name} reads {wanted}, and {part.of} has {found}: name another tap in its field `of`")
