"""The same training step in PyTorch, for `python -m lrfr_jax.benchmark --against torch`. Needs PyTorch.

A user's good code: channels_last, the view's matrices on the device, two forwards, SGD with momentum or AdamW, and
the network in evaluation. On a CPU in float32, eager, and compiled where a C++ compiler is found; on a GPU bfloat16
autocast and torch.compile, float32 products in TF32. The ResNets, which stand for the released code and for
arcface_torch, MobileFaceNet and the Face Transformers.
"""

import shutil
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import nn

from lrfr_jax import image_ops, models
from lrfr_jax.benchmark import torch_networks
from lrfr_jax.benchmark.setting import Part, Setting
from lrfr_jax.errors import UserError
from lrfr_jax.models import layers
from lrfr_jax.models.vit import FaceTransformer
from lrfr_jax.objective.view_rules import views_of

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
IRESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
BOTTLENECKS = (50, 101)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Residual(nn.Module):
    """body(x) + shortcut(x), and what follows the sum."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module, after: nn.Module):
        super().__init__()
        self.body, self.shortcut, self.after = body, shortcut, after

    def forward(self, x):
        return self.after(self.body(x) + self.shortcut(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _basic(inputs: int, channels: int, stride: int) -> tuple[nn.Module, int]:
    body = nn.Sequential(
        *(_conv(inputs, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
        *(_conv(channels, channels, 3), nn.BatchNorm2d(channels)),
    )
    return Residual(body, _shortcut(inputs, channels, stride), nn.ReLU(inplace=True)), channels


def _bottleneck(inputs: int, channels: int, stride: int) -> tuple[nn.Module, int]:
    body = nn.Sequential(
        *(_conv(inputs, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
        *(_conv(channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
        *(_conv(channels, 4 * channels, 1), nn.BatchNorm2d(4 * channels)),
    )
    return Residual(body, _shortcut(inputs, 4 * channels, stride), nn.ReLU(inplace=True)), 4 * channels


def _improved(inputs: int, channels: int, stride: int) -> tuple[nn.Module, int]:
    body = nn.Sequential(
        *(nn.BatchNorm2d(inputs), _conv(inputs, channels, 3), nn.BatchNorm2d(channels), nn.PReLU(channels)),
        *(_conv(channels, channels, 3, stride), nn.BatchNorm2d(channels)),
    )
    return Residual(body, _shortcut(inputs, channels, stride), nn.Identity()), channels


def network(backbone: str, *, width: float, embedding_size: int, dropout: float) -> nn.Module:
    """The network of a name in `lrfr_jax.models.BACKBONES`, freshly drawn."""
    if backbone == "mobilefacenet":
        return torch_networks.mobile(width=width, embedding_size=embedding_size, dropout=dropout)
    if backbone in torch_networks.FACE_TRANSFORMERS:
        depth = models.BACKBONES[backbone].keywords.get("depth", FaceTransformer.depth)
        shape = {"patch": torch_networks.FACE_TRANSFORMERS[backbone], "depth": depth, "dim": embedding_size}
        return torch_networks.FaceTransformer(**shape, dropout=dropout)
    depth = int(backbone.removeprefix("i").removeprefix("resnet"))
    is_improved = backbone.startswith("i")
    block = _improved if is_improved else _bottleneck if depth in BOTTLENECKS else _basic
    sizes = (IRESNET_BLOCKS if is_improved else BLOCKS)[depth]
    widths = [layers.scaled_channels(channels, width) for channels in layers.STAGE_CHANNELS]
    stem = [nn.PReLU(widths[0])] if is_improved else [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    modules, channels = [_conv(3, widths[0], 3), nn.BatchNorm2d(widths[0]), *stem], widths[0]
    for stage, (size, stage_channels) in enumerate(zip(sizes, widths, strict=True)):
        for number in range(size):
            stride = 2 if number == 0 and (stage > 0 or is_improved) else 1
            made, channels = block(channels, stage_channels, stride)
            modules.append(made)
    side = image_ops.IMAGE_SIZE // 16
    neck = [nn.BatchNorm2d(channels), nn.Dropout(dropout), nn.Flatten(), nn.Linear(channels * side**2, embedding_size)]
    return nn.Sequential(*modules, *neck, nn.BatchNorm1d(embedding_size))


class Views(nn.Module):
    """The views of a batch of bytes: flipped together, one of them reduced by matrices, with Pillow's rounding."""

    def __init__(self, sizes: tuple[int, ...], ratios: tuple[float, ...]):
        super().__init__()
        operators = image_ops.resampling_operators(sizes, image_size=image_ops.IMAGE_SIZE) if sizes else ()
        for name, operator in zip(("down", "up"), operators, strict=False):
            self.register_buffer(name, torch.from_numpy(np.array(operator)))
        self.register_buffer("ratios", torch.tensor(ratios))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        pixels = torch.where(flipped, images.flip(-1), images).float()
        views = [pixels]
        if len(self.ratios):
            drawn = torch.multinomial(self.ratios, len(images), replacement=True)
            for operator in (self.down[drawn][:, None], self.up[drawn][:, None]):
                pixels = (pixels @ operator.mT + 0.5).floor().clamp(0, 255)
                pixels = (operator @ pixels + 0.5).floor().clamp(0, 255)
            views.append(pixels)
        half = image_ops.HALF_RANGE
        return [((view - half) / half).contiguous(memory_format=torch.channels_last) for view in views]


def loss_of(features: list[torch.Tensor], centers: torch.Tensor, labels: torch.Tensor, **numbers: float):
    """Eq. 7 with CosFace and LogExp, p = 1."""
    unit = [F.normalize(feature.float()) for feature in features]
    weights = F.normalize(centers)
    loss = 0.0
    for view in unit:
        cosines = view @ weights.T
        margin = F.one_hot(labels, len(centers)) * numbers["margin"]
        loss = loss + F.cross_entropy(numbers["scale"] * (cosines - margin), labels) / len(unit)
    if len(unit) == 2:
        distance = torch.log1p(torch.expm1((unit[0] - unit[1]).abs()).sum(1)) / unit[0].shape[1]
        loss = loss + numbers["distance_weight"] * distance.mean()
    return loss


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _backbone(setting: Setting) -> nn.Module:
    model = setting.config.model
    shape = {"width": model.width, "embedding_size": model.embedding_size, "dropout": model.dropout}
    return network(model.backbone, **shape).to(_device(), memory_format=torch.channels_last)


def _optimizer(config: ConfigDict, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    settings = {"lr": config.optimizer.learning_rate, "weight_decay": config.optimizer.weight_decay}
    if config.optimizer.algorithm == "adamw":
        how = {"betas": tuple(config.optimizer.betas), "eps": config.optimizer.epsilon}
        return torch.optim.AdamW(parameters, **settings, **how)
    settings |= {"momentum": config.optimizer.momentum, "nesterov": config.optimizer.nesterov}
    return torch.optim.SGD(parameters, **settings)


def training_step(setting: Setting, *, compiled: bool, half: bool) -> Callable[[], None]:
    """Returns a function that takes one step; `compiled`: by torch.compile; `half`: bfloat16 autocast."""
    config, device, backbone = setting.config, _device(), _backbone(setting)
    model = config.model
    lower = views_of(config.augment.views.to_dict()).get("lr")
    views = Views(*((lower.sizes, lower.ratios) if lower else ((), ()))).to(device)
    centers = nn.Parameter(torch.empty(setting.run.classifier.num_identities, model.embedding_size, device=device))
    nn.init.xavier_uniform_(centers)
    optimizer = _optimizer(config, [*backbone.parameters(), centers])
    images = torch.from_numpy(np.array(setting.images)).permute(0, 3, 1, 2).contiguous().to(device)
    labels = torch.from_numpy(np.array(setting.labels)).long().to(device)
    embed = torch.compile(backbone) if compiled else backbone
    numbers = {"scale": config.head.scale, "margin": config.head.margin, "distance_weight": config.loss.distance_weight}

    def step() -> None:
        dressed = views(images)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            features = [embed(view) for view in dressed]
        loss = loss_of(features, centers, labels, **numbers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    return step


def evaluation(setting: Setting, *, compiled: bool) -> Callable[[], None]:
    """Returns a function that embeds the batch, in float32 on a CPU."""
    backbone, device = _backbone(setting).eval(), _device()
    embed = torch.compile(backbone) if compiled else backbone
    pixels = torch.from_numpy(np.array(setting.images)).permute(0, 3, 1, 2)
    images = ((pixels.float() - image_ops.HALF_RANGE) / image_ops.HALF_RANGE).to(device)
    images = images.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            embed(images).cpu()

    return run


def _has_usual_views(augment: ConfigDict) -> bool:
    """Whether they are those of the paper, of equal weight, and nothing else is done to the images."""
    views = views_of(augment.views.to_dict())
    is_paired = list(views) in (["hr"], ["hr", "lr"]) and not views["hr"].sizes
    is_whole = all((view.share, view.operator) == (1, "bicubic") for name, view in views.items() if name == "lr")
    extras = any(augment[name].probability for name in ("crop", "low_resolution", "light", "gray"))
    return is_paired and is_whole and len({view.weight for view in views.values()}) == 1 and not extras


def parts(setting: Setting) -> dict[str, Part]:
    """The steps and forwards to take turns with: float32 on a CPU, eager and compiled; on a GPU bfloat16, compiled.

    Raises:
      UserError: another network or loss than the reference has.
    """
    config = setting.config
    known = ("resnet", "iresnet", "mobilefacenet", *torch_networks.FACE_TRANSFORMERS)
    has = config.model.backbone.startswith(known) and config.model.batch_norm == "per_view"
    if not _has_usual_views(config.augment):
        raise UserError("--against torch has one high-resolution view, or that and a low-resolution one, only")
    if config.optimizer.decay_towards != "zero" or config.optimizer.weight_average:
        raise UserError(
            "--against torch: optimizer.decay_towards and optimizer.weight_average have no counterpart in PyTorch's "
            "step: leave them as 'zero' and 0"
        )
    if config.optimizer.weight_decay_by_prefix:
        raise UserError("--against torch has one weight decay only")
    if not has or config.head.name != "cosface" or (config.loss.distance, config.loss.p) != ("logexp", 1.0):
        raise UserError(
            "--against torch has ResNets, MobileFaceNet and Face Transformers with CosFace, LogExp of p=1 and "
            "model.batch_norm='per_view' only"
        )
    name, batch = f"torch {torch.__version__}", config.batch_size
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        return {f"{name} bf16 compiled": Part(training_step(setting, compiled=True, half=True), batch)}
    made = {}
    for how, compiled in {"eager": False, "compiled": True}.items():
        if not compiled or shutil.which("g++"):
            made[f"{name} {how}"] = Part(training_step(setting, compiled=compiled, half=False), batch)
            made[f"evaluation in {name} {how}"] = Part(evaluation(setting, compiled=compiled), batch)
    return made
