"""The transformers and MobileFaceNet in PyTorch, for `torch_step`; `scaled_dot_product_attention` in the former."""

import torch
import torch.nn.functional as F
from torch import nn

from lrfr_jax import image_ops
from lrfr_jax.models import layers, mobilefacenet, vit

FACE_TRANSFORMERS = {"vit_p8s8": 8, "vit_p12s8": 12}


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x), with dropout behind both and in the hidden layer."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.heads, self.scale, hidden = dim // vit.HEAD, dim**-0.5, vit.MLP_RATIO * dim
        self.norm1, self.qkv, self.norm2 = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim, bias=False), nn.LayerNorm(dim)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))
        ends = nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), *ends)

    def forward(self, x):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        gathered = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        x = x + self.out(gathered.transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.mlp(self.norm2(x))


class FaceTransformer(nn.Module):
    """The network of `models.vit`, of images in [-1, 1]."""

    def __init__(self, *, patch: int, depth: int, dim: int, dropout: float):
        super().__init__()
        padding = patch - vit.STRIDE
        self.patches = nn.Sequential(nn.ZeroPad2d((padding, 0, padding, 0)), nn.Conv2d(3, dim, patch, vit.STRIDE))
        count = (image_ops.IMAGE_SIZE // vit.STRIDE) ** 2
        self.first, self.position = nn.Parameter(torch.randn(1, 1, dim)), nn.Parameter(torch.randn(1, count + 1, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, images):
        half = image_ops.HALF_RANGE
        x = self.patches(images * half + half).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.position
        return self.norm(self.blocks(self.dropout(x))[:, 0])


def _convolution(inputs: int, outputs: int, size: int, stride: int, groups: int) -> list[nn.Module]:
    made = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [made, nn.BatchNorm2d(outputs)]


class Bottleneck(nn.Module):
    """Wide 1x1 convolution, depthwise 3x3, linear 1x1, and the input where it has the same shape."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int):
        super().__init__()
        self.is_added = inputs == outputs and stride == 1
        self.body = nn.Sequential(
            *(*_convolution(inputs, hidden, 1, 1, 1), nn.PReLU(hidden)),
            *(*_convolution(hidden, hidden, 3, stride, hidden), nn.PReLU(hidden)),
            *_convolution(hidden, outputs, 1, 1, 1),
        )

    def forward(self, x):
        return x + self.body(x) if self.is_added else self.body(x)


def mobile(*, width: float, embedding_size: int, dropout: float) -> nn.Sequential:
    """The network of `models.mobilefacenet`."""
    first, last = (layers.scaled_channels(c, width) for c in (mobilefacenet.STEM_CHANNELS, mobilefacenet.LAST_CHANNELS))
    modules = [*_convolution(3, first, 3, 2, 1), nn.PReLU(first), *_convolution(first, first, 3, 1, first)]
    modules.append(nn.PReLU(first))
    channels = first
    for sizes in mobilefacenet.STAGES:
        hidden, outputs = (layers.scaled_channels(count, width) for count in sizes[:2])
        for number in range(sizes[2]):
            modules.append(Bottleneck(channels, hidden, outputs, sizes[3] if number == 0 else 1))
            channels = outputs
    modules += [*_convolution(channels, last, 1, 1, 1), nn.PReLU(last)]
    modules += [nn.Conv2d(last, last, image_ops.IMAGE_SIZE // 16, groups=last, bias=False), nn.BatchNorm2d(last)]
    linear = nn.Linear(last, embedding_size)
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Flatten(), linear, nn.BatchNorm1d(embedding_size))
