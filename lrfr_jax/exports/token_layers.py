"""The transformers' layers as operations of `layer_graph`; tokens are [batch, tokens, i] there too.

to_tokens   [batch, i, h, w] becomes [batch, h w, i]
prepend     first [1, 1, i], position [1, tokens + 1, i]: a token before all others, then a number added to each
shift       position [1, tokens, i], added
constant    value, of no input
layer_norm  scale [i], bias [i]; of `epsilon`
linear      kernel [i, o], and bias [o] if there is one
attention   of [batch, tokens, 3 i], and what is added to the logits if there is a second input; of `heads`, `scale`,
            `queries`: the tokens that are wanted
first       the first `count` tokens
gelu, relu6
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from lrfr_jax.models import kprpe, transformer, vit


def _patches(arrays: Mapping, module: transformer.PatchEmbed, shape: tuple[int, ...]):
    convolution = {"kernel": arrays["kernel"].transpose(3, 2, 0, 1), "bias": arrays["bias"]}
    settings = {"stride": module.stride, "padding": module.padding, "groups": 1}
    return [("convolve", convolution, settings), ("to_tokens", {}, {})]


def _bias(arrays: Mapping, module: kprpe.KeypointBias, shape: tuple[int, ...]):
    params = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    value = kprpe.KeypointBias(module.heads, module.side).apply({"params": params}, None)
    return [("constant", {"value": np.asarray(value)}, {})]


def _attention(arrays: Mapping, module: transformer.Attention, shape: tuple[int, ...]):
    return [("attention", {}, {"heads": module.heads, "scale": module.scale, "queries": shape[0]})]


def linear(arrays: Mapping, module: nn.Dense, shape: tuple[int, ...]):
    """A linear layer over the last axis of tokens."""
    return [("linear", dict(arrays), {})]


def _layer_norm(arrays: Mapping, module: nn.LayerNorm, shape: tuple[int, ...]):
    return [("layer_norm", {name: arrays[name] for name in ("scale", "bias")}, {"epsilon": module.epsilon})]


# (arrays, module, its result's shape without the batch) -> operations.
LAYERS = {
    transformer.PatchEmbed: _patches,
    vit.Tokens: lambda arrays, *_: [("prepend", {name: arrays[name] for name in ("first", "position")}, {})],
    kprpe.Position: lambda arrays, *_: [("shift", dict(arrays), {})],
    kprpe.KeypointBias: _bias,
    transformer.Attention: _attention,
    transformer.Gelu: lambda *_: [("gelu", {}, {})],
    transformer.Relu6: lambda *_: [("relu6", {}, {})],
    nn.LayerNorm: _layer_norm,
}
