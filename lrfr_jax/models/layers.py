"""What the backbones share: input convention, BatchNorm, PReLU, max-pool, a stage of blocks, the neck."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.image_ops import HALF_RANGE, IMAGE_SIZE, resampling_operators
from lrfr_jax.models.convolution import RESULT_NAME

# Channels of the four stages at width 1, and the fewest that a narrowed stage keeps.
STAGE_CHANNELS = (64, 128, 256, 512)
MIN_CHANNELS = 8
# PyTorch's momentum of 0.1 weighs the new value, flax's 0.9 the old one: the same running mean. The running variance
# differs: PyTorch stores the unbiased one, n / (n - 1) times flax's, n being batch x height x width. We keep flax's:
# only the neck's last BatchNorm has a small n, the batch size (256: 0.4 %), and there the factor is the same for all
# dimensions, so it changes the feature's length and hardly its direction.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5  # PyTorch's default, in the published weights of both families.
PRELU_INITIAL_SLOPE = 0.25  # PyTorch's default.
# PyTorch's default of a linear layer: uniform within +-1/sqrt(fan_in), whose variance is a third of 1/fan_in.
linear_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# How the float32 products behind a body of each type, of neck and class centers, are multiplied on accelerators, which
# take fewer bits unless told otherwise. HIGH is TF32 on NVIDIA's (10 bits of mantissa, where a bfloat16 body hands over
# 7) and three bfloat16 passes on TPUs; in float32 proper these products take 8 % of a ResNet50's step on an H200.
PRODUCT_PRECISIONS = {"float32": jax.lax.Precision.HIGHEST, "bfloat16": jax.lax.Precision.HIGH}


@dataclasses.dataclass(frozen=True)
class InputConvention:
    """How the weights of a network want their images: (pixel - mean) / scale of pixels 0..255.

    An image is shrunk, or columns of it are taken, not both.

    Attributes:
      order: of the color channels, 'rgb' or 'bgr'.
      mean: pixel value that becomes 0.
      scale: what the difference to the mean is divided by.
      columns: width of the image, of which the middle columns are taken; the height is always whole.
      size: side in pixels that the whole image is shrunk to, bicubic with antialias; 112 leaves it as it is.
    """

    order: str
    mean: float | int
    scale: float | int
    columns: int
    size: int = IMAGE_SIZE


def to_convention(
    images: Float[Array, "batch height width 3"], convention: InputConvention
) -> Float[Array, "batch rows columns 3"]:
    """Turns normalized RGB images, as `image_ops.normalize` gives them, into what a network's weights want.

    Raises:
      ValueError: the images are narrower than the convention's columns.
    """
    if convention.size != IMAGE_SIZE:
        return _colors(shrunk(images, convention.size), convention)
    if convention.columns > images.shape[2]:
        raise ValueError(f"model.input.columns={convention.columns} of images that are {images.shape[2]} wide")
    left = (images.shape[2] - convention.columns) // 2
    return _colors(images[:, :, left : left + convention.columns], convention)


def shrunk(images: Float[Array, "batch height width 3"], size: int) -> Float[Array, "batch size size 3"]:
    """Square images at a smaller side, by `image_ops`'s bicubic matrices."""
    [matrix], _ = resampling_operators((size,), image_size=images.shape[1])
    matrix, precision = jnp.asarray(matrix, images.dtype), jax.lax.Precision.HIGHEST
    images = jnp.einsum("bhwc,vw->bhvc", images, matrix, precision=precision)
    return jnp.einsum("bhwc,vh->bvwc", images, matrix, precision=precision)


def _colors(
    images: Float[Array, "batch height width 3"], convention: InputConvention
) -> Float[Array, "batch height width 3"]:
    images = images[..., ::-1] if convention.order == "bgr" else images
    if convention.mean == convention.scale == HALF_RANGE:
        return images
    return images * (HALF_RANGE / convention.scale) + (HALF_RANGE - convention.mean) / convention.scale


def scaled_channels(channels: int, width: float) -> int:
    """Returns round(width * channels), at least `MIN_CHANNELS`."""
    return max(MIN_CHANNELS, round(width * channels))


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Gives bfloat16 values the precision that neck, head and losses need; float64 ones, of numerical checks, stay."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class BatchNorm(nn.BatchNorm):
    r"""flax's BatchNorm; with running statistics it is one product and one sum, x * factor + shift.

    .. math:: y = x\, \frac{s}{\sqrt{v + \epsilon}} + \Bigl(b - \frac{m\,s}{\sqrt{v + \epsilon}}\Bigr)

    flax subtracts the mean first, and that difference has to be kept for the gradient beside the input: of
    MobileFaceNet with frozen statistics a seventh of the memory.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*shape channels"]) -> Float[Array, "*shape channels"]:
        if not self.use_running_average:
            return super().__call__(x)
        size = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, size).value
        variance = self.variable("batch_stats", "var", jnp.ones, size).value
        factor = jax.lax.rsqrt(variance + self.epsilon)
        if self.use_scale:
            factor = factor * self.param("scale", self.scale_init, size)
        shift = self.param("bias", self.bias_init, size) - mean * factor
        along_channels = (1,) * (x.ndim - 1) + size
        y = at_least_float32(x) * factor.reshape(along_channels) + shift.reshape(along_channels)
        return y.astype(self.dtype)


def batch_norm(train: bool, *, dtype: str, name: str, use_scale: bool = True) -> nn.BatchNorm:
    """BatchNorm over all axes but the last: batch statistics in training, running ones otherwise.

    Statistics are at least float32 whatever `dtype` the result has. Under jit a batch that is split over devices is
    normalized as a whole.
    """
    return BatchNorm(
        use_running_average=not train,
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        use_scale=use_scale,
        dtype=dtype,
        name=name,
    )


class MaxPoolOfRelu(nn.Module):
    """3x3 maximum at stride 2, padded by 1, of values that a ReLU made non-negative.

    It is the maximum of three shifted strided slices along the rows, then along the columns, with zeros as padding:
    exact because no value is below zero. On the CPU its gradient takes a third of the time of `nn.max_pool`'s
    select-and-scatter. Where positive values tie, the gradient is shared among them instead of going to the first;
    ties at zero do not matter, as the ReLU passes none there.
    """

    kernel = 3
    stride = 2

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch half_h half_w channels"]:
        shifts, stride = range(self.kernel), self.stride
        rows, columns = ((size - 1) // stride * stride + 1 for size in x.shape[1:3])
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = functools.reduce(jnp.maximum, [x[:, shift : shift + rows : stride] for shift in shifts])
        return functools.reduce(jnp.maximum, [x[:, :, shift : shift + columns : stride] for shift in shifts])


class Pooled(nn.Module):
    """The mean or the largest value ('mean', 'max') over some axes, which keep the length 1."""

    kind: str
    axes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w c"]:
        if self.kind == "max":
            return jnp.max(x, axis=self.axes, keepdims=True)
        return jnp.mean(at_least_float32(x), axis=self.axes, keepdims=True).astype(x.dtype)


@jax.custom_vjp
def prelu(
    x: Float[Array, "batch height width channels"], slope: Float[Array, " channels"]
) -> Float[Array, "batch height width channels"]:
    r"""x where it is positive, else the slope of its channel times x.

    .. math:: y = x \text{ if } x > 0 \text{ else } a_c\, x

    The gradient is written out, so that it keeps x alone; the derived one keeps the comparison and the product too.

    References:
      He et al. 2015, Delving Deep into Rectifiers, arXiv 1502.01852, Eq. 1 and 8.
    """
    return jnp.where(x > 0, x, slope[None, None, None] * x)


def _prelu_forward(x, slope):
    return prelu(x, slope), (x, slope)


def _prelu_backward(saved, gradient):
    x, slope = saved
    is_positive = x > 0
    slope_gradient = jnp.where(is_positive, 0, x * gradient).sum(axis=(0, 1, 2))
    return gradient * jnp.where(is_positive, 1, slope[None, None, None]), slope_gradient


prelu.defvjp(_prelu_forward, _prelu_backward)


class PReLU(nn.Module):
    """`prelu` with a learned slope of each channel (flax's has one slope for all channels)."""

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        slope = self.param("slope", nn.initializers.constant(PRELU_INITIAL_SLOPE), (x.shape[-1],))
        return prelu(x, slope.astype(self.dtype))


# What the gradient of a block computes again instead of having it kept: nothing, all but convolutions, or the whole
# block from its input. A value says which results inside a block are kept.
REMATS = {
    "none": None,
    "elementwise": jax.checkpoint_policies.save_only_these_names(RESULT_NAME),
    "blocks": jax.checkpoint_policies.nothing_saveable,
}


class Stage(nn.Module):
    """`size` blocks one after the other; the first has the stride. `remat` is a key of `REMATS`."""

    block: Callable[..., nn.Module]
    size: int
    channels: int
    stride: int
    dtype: str
    remat: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        for number in range(self.size):
            stride = self.stride if number == 0 else 1
            block = self.block(self.channels, stride, self.dtype, name=f"block{number}")
            if self.remat == "none":
                x = block(x, train)
            else:
                x = nn.remat(lambda block, x: block(x, train), policy=REMATS[self.remat])(block, x)
        return x


def last_linear(embedding_size: int, dtype: str) -> nn.Dense:
    """The linear layer that gives the feature, behind a body of this type."""
    precision = PRODUCT_PRECISIONS.get(dtype, jax.lax.Precision.HIGHEST)  # float64, of numerical checks, has none
    return nn.Dense(embedding_size, kernel_init=linear_init, precision=precision, name="linear")


class Neck(nn.Module):
    """BatchNorm -> dropout -> flatten -> linear -> BatchNorm: from the last feature map to the raw feature.

    It computes in at least float32, its product in the precision that `PRODUCT_PRECISIONS` has for the input's type.
    Without `learn_scale` the last BatchNorm's scale is fixed at 1.
    """

    embedding_size: int
    dropout: float
    learn_scale: bool

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch dim"]:
        linear = last_linear(self.embedding_size, x.dtype.name)
        x = at_least_float32(x)
        x = batch_norm(train, dtype=x.dtype.name, name="bn1")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = linear(x.reshape(x.shape[0], -1))
        return batch_norm(train, dtype=x.dtype.name, use_scale=self.learn_scale, name="bn2")(x)
