"""The transformers in slow numpy, with weights drawn under their makers' names, in PyTorch's shapes."""

import math

import numpy as np

HEAD = 64


class Weights:
    """Draws each tensor when it is first asked for."""

    def __init__(self, before=""):
        self.state, self.before, self.draw = {}, before, np.random.default_rng(0)

    def __call__(self, name, *shape, center=0.0, spread=0.1):
        if self.before + name not in self.state:
            drawn = center + spread * np.tanh(self.draw.normal(size=shape))
            self.state[self.before + name] = drawn.astype(np.float32)
        return self.state[self.before + name].astype(np.float64)

    def linear(self, name, x, size, *, bias=True):
        weight = self(f"{name}.weight", size, x.shape[-1], spread=1.5 / math.sqrt(x.shape[-1]))
        return x @ weight.T + (self(f"{name}.bias", size) if bias else 0)

    def layer_norm(self, name, x):
        centered = x - x.mean(axis=-1, keepdims=True)
        unit = centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-5)
        return unit * self(f"{name}.weight", x.shape[-1], center=1.0) + self(f"{name}.bias", x.shape[-1])

    def batch_norm(self, name, x, epsilon):
        size = x.shape[-1]
        self.state[f"{self.before}{name}.num_batches_tracked"] = np.zeros((), np.int64)
        variance = self(f"{name}.running_var", size, center=1.0)
        unit = (x - self(f"{name}.running_mean", size)) / np.sqrt(variance + epsilon)
        return unit * self(f"{name}.weight", size, center=1.0) + self(f"{name}.bias", size)


def attention(qkv, heads, scale, bias=0.0):
    q, k, v = np.moveaxis(qkv.reshape(*qkv.shape[:2], 3, heads, -1), (2, 3), (0, 2))
    logits = scale * q @ np.swapaxes(k, -1, -2) + bias
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    gathered = shares / shares.sum(axis=-1, keepdims=True) @ v
    return np.moveaxis(gathered, 1, 2).reshape(*qkv.shape[:2], -1)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def face_transformer(weights, pixels, *, dim, depth, patch):
    """Of raw RGB pixels [batch, 3, 112, 112]; patches by channel, row, column if they overlap, else channels last."""
    batch = len(pixels)
    padded = np.pad(pixels, ((0, 0), (0, 0), (patch - 8,) * 2, (patch - 8,) * 2))
    windows = [padded[:, :, 8 * r :, 8 * c :][:, :, :patch, :patch] for r in range(14) for c in range(14)]
    tokens = np.stack(windows, axis=1)
    tokens = tokens if patch == 12 else tokens.transpose(0, 1, 3, 4, 2)
    x = weights.linear("patch_to_embedding", tokens.reshape(batch, 196, -1), dim)
    first = np.broadcast_to(weights("cls_token", 1, 1, dim, spread=1.0), (batch, 1, dim))
    x = np.concatenate([first, x], axis=1) + weights("pos_embedding", 1, 197, dim, spread=1.0)
    for number in range(depth):
        name = f"transformer.layers.{number}"
        y = weights.layer_norm(f"{name}.0.fn.norm", x)
        y = attention(weights.linear(f"{name}.0.fn.fn.to_qkv", y, 3 * dim, bias=False), dim // HEAD, dim**-0.5)
        x = x + weights.linear(f"{name}.0.fn.fn.to_out.0", y, dim)
        y = gelu(weights.linear(f"{name}.1.fn.fn.net.0", weights.layer_norm(f"{name}.1.fn.norm", x), 4 * dim))
        x = x + weights.linear(f"{name}.1.fn.fn.net.3", y, dim)
    weights("loss.weight", 7, dim)
    return weights.layer_norm("mlp_head.0", x[:, 0])


def bucket(difference):
    size = abs(difference)
    return int(math.copysign(size if size <= 1 else 2 if size <= 3 else 3, difference)) if size else 0


def vit(weights, pixels, *, dim, depth, size, keypoints=None):
    """CVLface's, of RGB in [-1, 1] [batch, 3, 112, 112]; with keypoints [5, 2] in [0, 1] it is vit_kprpe's."""
    batch, heads = len(pixels), dim // HEAD
    kernel = weights("patch_embed.proj.weight", dim, 3, 8, 8, spread=0.1)
    x = np.einsum("bcrpsq,dcpq->brsd", pixels.reshape(batch, 3, 14, 8, 14, 8), kernel).reshape(batch, 196, dim)
    x = x + weights("patch_embed.proj.bias", dim) + weights("pos_embed", 1, 196, dim)
    biases = np.zeros((depth, 1, 1, 1))
    if keypoints is not None:
        centers = np.array([[(c + 0.5) / 14, (r + 0.5) / 14] for r in range(14) for c in range(14)])
        relative = (centers[:, None] - keypoints[None]).reshape(196, 10)
        table = weights.linear("keypoint_linear", relative, 49 * heads * depth).reshape(196, depth, heads, 49)
        offsets = np.array([[bucket(a - b) for b in range(14)] for a in range(14)]) + 3
        place = np.arange(196)
        ids = 7 * offsets[place[:, None] // 14, place // 14] + offsets[place[:, None] % 14, place % 14]
        biases = np.moveaxis(table[place[:, None], ..., ids], (2, 3), (0, 1))
    for number in range(depth):
        name = f"blocks.{number}"
        y = weights.linear(f"{name}.attn.qkv", weights.layer_norm(f"{name}.norm1", x), 3 * dim, bias=False)
        x = x + weights.linear(f"{name}.attn.proj", attention(y, heads, HEAD**-0.5, biases[number]), dim)
        y = weights.linear(f"{name}.mlp.fc1", weights.layer_norm(f"{name}.norm2", x), 5 * dim)
        x = x + weights.linear(f"{name}.mlp.fc2", np.clip(y, 0, 6), dim)
    x = weights.layer_norm("norm", x).reshape(batch, -1)
    x = weights.batch_norm("feature.1", weights.linear("feature.0", x, dim, bias=False), 2e-5)
    return weights.batch_norm("feature.3", weights.linear("feature.2", x, size, bias=False), 2e-5)
