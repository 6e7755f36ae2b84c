"""The backbones, by name: normalized images [batch, 112, 112, 3] in, raw features [batch, embedding_size] out."""

import functools
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, Float

from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.models.iresnet import CBAMBlock, IResNet
from lrfr_jax.models.layers import REMATS, InputConvention
from lrfr_jax.models.mobilefacenet import MobileFaceNet
from lrfr_jax.models.resnet import BasicBlock, Bottleneck, ResNet

BACKBONES = {
    "resnet18": functools.partial(ResNet, block=BasicBlock, stage_sizes=(2, 2, 2, 2)),
    "resnet34": functools.partial(ResNet, block=BasicBlock, stage_sizes=(3, 4, 6, 3)),
    "resnet50": functools.partial(ResNet, block=Bottleneck, stage_sizes=(3, 4, 6, 3)),
    "resnet101": functools.partial(ResNet, block=Bottleneck, stage_sizes=(3, 4, 23, 3)),
    "iresnet18": functools.partial(IResNet, stage_sizes=(2, 2, 2, 2)),
    "iresnet34": functools.partial(IResNet, stage_sizes=(3, 4, 6, 3)),
    "iresnet50": functools.partial(IResNet, stage_sizes=(3, 4, 14, 3)),
    "iresnet100": functools.partial(IResNet, stage_sizes=(3, 13, 30, 3)),
    "cbam_iresnet18": functools.partial(IResNet, block=CBAMBlock, stage_sizes=(2, 2, 2, 2)),
    "cbam_iresnet50": functools.partial(IResNet, block=CBAMBlock, stage_sizes=(3, 4, 14, 3)),
    "mobilefacenet": MobileFaceNet,
}
DTYPES = ("float32", "bfloat16")
ORDERS = ("rgb", "bgr")


@runtime_checkable
class Backbone(Protocol):
    """What embeds images: a module of ours, or the program of an exported file."""

    def apply(
        self, variables: Any, images: Float[Array, "batch height width 3"], *, train: bool
    ) -> Float[Array, "batch dim"]:
        """Returns raw features of normalized RGB images."""


def create_backbone(
    backbone: str,
    *,
    width: float,
    embedding_size: int,
    dropout: float,
    dtype: str,
    input: Mapping[str, Any],
    remat: str = "none",
) -> nn.Module:
    """Returns the module of a name in `BACKBONES`: module(images, train) with variables 'params' and 'batch_stats'.

    Args:
      backbone: a key of `BACKBONES`.
      width: multiplies every channel count, > 0; 1 is the published network.
      embedding_size: length of the feature, >= 1.
      dropout: share zeroed before the linear layer in training, in [0, 1); above 0 it takes the rng stream 'dropout'.
      dtype: of the body's computation, 'float32' or 'bfloat16'.
      input: the fields of `layers.InputConvention`: what the weights were trained on.
      remat: what the gradient computes again instead of having it kept, a key of `layers.REMATS`; the same numbers.

    Raises:
      UserError: an argument is unknown or out of range.
    """
    if backbone not in BACKBONES:
        raise UserError(f"unknown model.backbone {backbone!r}: choose one of {', '.join(BACKBONES)}")
    if dtype not in DTYPES:
        raise UserError(f"unknown model.dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    if remat not in REMATS:
        raise UserError(f"unknown remat {remat!r}: choose one of {', '.join(REMATS)}")
    if width <= 0:
        raise UserError(f"model.width={width} must be above 0: set it to 1 for the published network")
    if embedding_size < 1:
        raise UserError(f"model.embedding_size={embedding_size} must be at least 1")
    if not 0 <= dropout < 1:
        raise UserError(f"model.dropout={dropout} must be in [0, 1): set it to 0 to switch dropout off")
    try:
        convention = InputConvention(**input)
    except TypeError as error:
        raise UserError(f"model.input={dict(input)} must have the keys order, mean, scale and columns") from error
    if convention.order not in ORDERS or convention.scale <= 0 or not 1 <= convention.columns <= IMAGE_SIZE:
        raise UserError(
            f"model.input={dict(input)}: order must be one of {', '.join(ORDERS)}, scale above 0 and columns in "
            f"1..{IMAGE_SIZE}"
        )
    return BACKBONES[backbone](
        width=width, embedding_size=embedding_size, dropout=dropout, dtype=dtype, input=convention, remat=remat
    )


def in_words(model: Mapping[str, Any]) -> str:
    """Says which network arguments of `create_backbone` make, for people."""
    return f"{model['backbone']} of width {model['width']:g}, embedding of {model['embedding_size']}"
