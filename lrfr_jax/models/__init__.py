"""The backbones, by name: normalized images [batch, 112, 112, 3] in, raw features [batch, embedding_size] out."""

import functools
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.models.bridge_student import BridgeStudent
from lrfr_jax.models.iresnet import CBAMBlock, IResNet, SEBlock
from lrfr_jax.models.kprpe import KeypointTransformer
from lrfr_jax.models.layers import REMATS, InputConvention
from lrfr_jax.models.mobilefacenet import MobileFaceNet
from lrfr_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from lrfr_jax.models.vit import FaceTransformer

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
    "se_iresnet18": functools.partial(IResNet, block=SEBlock, stage_sizes=(2, 2, 2, 2)),
    "se_iresnet50": functools.partial(IResNet, block=SEBlock, stage_sizes=(3, 4, 14, 3)),
    "se_iresnet100": functools.partial(IResNet, block=SEBlock, stage_sizes=(3, 13, 30, 3)),
    "mobilefacenet": MobileFaceNet,
    "mobilefacenet_scale2": functools.partial(MobileFaceNet, scale=2),
    "bridge_student": BridgeStudent,
    "vit_p8s8": functools.partial(FaceTransformer, patch=8),
    "vit_p12s8": functools.partial(FaceTransformer, patch=12),
    "vit_kprpe_small": functools.partial(KeypointTransformer, depth=12, head=64, mlp_ratio=5),
    "vit_kprpe_base": functools.partial(KeypointTransformer, depth=24, head=32, mlp_ratio=3),
}
DTYPES = ("float32", "bfloat16")
ORDERS = ("rgb", "bgr")
SMALLEST_SIZE = 4  # of an input: the student's poolings leave one pixel of it


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

    Those of a Face Transformer, which has no BatchNorm, are 'params' alone.

    Args:
      backbone: a key of `BACKBONES`.
      width: multiplies every channel count, > 0; 1 is the published network. Of a transformer the length of a token,
        which must divide into heads.
      embedding_size: length of the feature, >= 1; of a Face Transformer that of a token.
      dropout: share zeroed before the linear layer in training, of a transformer in every block, in [0, 1); above 0 it
        takes the rng stream 'dropout'.
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
    size = input.get("size", IMAGE_SIZE)
    if not isinstance(size, int) or not SMALLEST_SIZE <= size <= IMAGE_SIZE:
        raise UserError(f"model.input.size={size} must be a side from {SMALLEST_SIZE} to {IMAGE_SIZE} pixels")
    try:
        convention = InputConvention(**input)
    except TypeError as error:
        raise UserError(f"model.input={dict(input)} must have the keys order, mean, scale, columns and size") from error
    if convention.order not in ORDERS or convention.scale <= 0 or not 1 <= convention.columns <= IMAGE_SIZE:
        raise UserError(
            f"model.input={dict(input)}: order must be one of {', '.join(ORDERS)}, scale above 0 and columns in "
            f"1..{IMAGE_SIZE}"
        )
    if IMAGE_SIZE not in (convention.size, convention.columns):
        raise UserError(
            f"model.input.size={convention.size} shrinks the whole image and model.input.columns={convention.columns} "
            f"takes a part of it: set one of them to {IMAGE_SIZE}"
        )
    network = BACKBONES[backbone](
        width=width, embedding_size=embedding_size, dropout=dropout, dtype=dtype, input=convention, remat=remat
    )
    if isinstance(network, FaceTransformer | KeypointTransformer):
        network.check()
    return network


def feature_size(backbone: nn.Module) -> int:
    """The length of a backbone's feature, by shapes alone."""
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    init = functools.partial(backbone.init_with_output, train=False)
    return jax.eval_shape(init, jax.eval_shape(jax.random.key, 0), images)[0].shape[-1]


def in_words(model: Mapping[str, Any]) -> str:
    """Says which network arguments of `create_backbone` make, for people."""
    return f"{model['backbone']} of width {model['width']:g}, embedding of {model['embedding_size']}"
