"""Does a config fit, and how long will it take? Memory of a device, operations of a step, hours; nothing is allocated.

python -m lrfr_jax.plan --config configs/ms1m_r50.py:batch_size=1024 --identities 85742 --images 5822653 \\
  --devices 8 --device_memory 80 --teraflops 200
--config FILE.py or FILE.py:key=value,key=value, --identities, --images and --device_memory are required; any number of
the config is changed by `--config.group.field=value`.
"""

import copy
import math

from absl import app, flags
from ml_collections import ConfigDict

from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.run import device_cache, experiment, sources
from lrfr_jax.sizing import memory_plan, operations
from lrfr_jax.sizing.memory_plan import Memory
from lrfr_jax.terminal import config_flag, progress

# The steps per epoch only move the learning rate.
STEPS_PER_EPOCH = 1000.0
GIGA, TERA, SECONDS_PER_HOUR = 1e9, 1e12, 3600
# Share of a device's memory that a program can have: the rest goes to the runtime, kernels' work space and gaps.
USABLE = 0.9
# Chunks of the class centers and smaller batches that are tried where a config does not fit.
CHUNKS, HALVINGS = (4, 16, 64), 6
SAMPLED_SHARE = 0.1  # of PartialFC, An et al. 2022

_CONFIG = config_flag.define()
_IDENTITIES = flags.DEFINE_integer("identities", None, "Identities of the training set.", lower_bound=1)
_IMAGES = flags.DEFINE_integer("images", None, "Images of the training set.", lower_bound=1)
_SECOND_IMAGES = flags.DEFINE_integer("second_images", 0, "Images of the set of config.input.second.", lower_bound=0)
_DEVICES = flags.DEFINE_integer("devices", 1, "Devices of all machines together.", lower_bound=1)
_MEMORY = flags.DEFINE_float("device_memory", None, "GB of one device.", lower_bound=0.0)
_TERAFLOPS = flags.DEFINE_float(
    "teraflops", 100.0, "Tera operations per second that a device sustains: its peak times the MFU of a benchmark."
)


def main(argv: list[str]) -> None:
    del argv  # in the flags
    with one_sentence():
        config, devices = _CONFIG.value, _DEVICES.value
        _check(config, devices)
        with progress.waiting("tracing the step"):
            work = _work(config)  # first, since it checks the whole config
            memory = _memory(config)
        print("\n".join([*_sizes(memory), *work, _verdict(config, memory)]))


def _check(config: ConfigDict, devices: int) -> None:
    experiment.check_ranges(config)
    if not _TERAFLOPS.value > 0:
        raise UserError(f"--teraflops {_TERAFLOPS.value:g} must be above 0")
    device_cache.check_choice(config.input.cache)
    sources.check_second(config)
    if bool(config.input.second.dataset) != bool(_SECOND_IMAGES.value):
        raise UserError("--second_images and --config.input.second.dataset need each other: give both or none")
    unit = devices * config.batch_parts
    if config.batch_size % unit:
        raise UserError(f"--config.batch_size={config.batch_size} is no multiple of {unit} (devices x batch_parts)")
    if devices % config.classifier.shards:
        raise UserError(f"--config.classifier.shards={config.classifier.shards} does not divide --devices={devices}")


def _memory(config: ConfigDict) -> Memory:
    of_set = {"num_identities": _IDENTITIES.value, "num_images": _IMAGES.value + _SECOND_IMAGES.value}
    return memory_plan.of_config(config, devices=_DEVICES.value, **of_set)


def _sizes(memory: Memory) -> list[str]:
    named = {
        "network, gradient, momentum": memory.backbone,
        "class centers, gradient, momentum": memory.class_centers,
        "cosines and their gradient": memory.cosines,
        "activations": memory.activations,
        "images and views": memory.images,
        "teacher": memory.teacher,
        "cache of the training set": memory.cache,
        "together": memory.total,
    }
    return [f"{name:34} {size / GIGA:8.2f} GB a device" for name, size in named.items()]


def _work(config: ConfigDict) -> list[str]:
    run = experiment.build_run(config, _IDENTITIES.value, STEPS_PER_EPOCH)
    sizes = {"batch": config.batch_size, "second_batch": config.input.second.batch_size}
    of_step = operations.of_training(run, embedding_size=config.model.embedding_size, **sizes)
    steps = math.ceil(config.num_epochs * _IMAGES.value / config.batch_size)
    hours = of_step * steps / (_TERAFLOPS.value * TERA * _DEVICES.value) / SECONDS_PER_HOUR
    return [
        f"{of_step / TERA:.3g} Tera operations a step, {steps:,} steps of {config.batch_size:,} images",
        f"{hours:.3g} hours on {_DEVICES.value} devices of {_TERAFLOPS.value:g} Tera operations per second sustained",
    ]


def _verdict(config: ConfigDict, memory: Memory) -> str:
    room = _MEMORY.value * GIGA * USABLE
    share = f"of {_MEMORY.value:g} GB, of which {USABLE:.0%} can be used"
    if memory.total <= room:
        return f"It fits: {memory.total / GIGA:.1f} GB {share}."
    for changes in _remedies(config):
        changed = copy.deepcopy(config)
        changed.update_from_flattened_dict(changes)
        total = _memory(changed).total
        if total <= room:
            changes = {key: value for key, value in changes.items() if _value_of(config, key) != value}
            options = " ".join(f"--config.{key}={value}" for key, value in changes.items())
            return (
                f"It does not fit: {memory.total / GIGA:.1f} GB {share}. With {options} it takes {total / GIGA:.1f} GB."
            )
    return (
        f"It does not fit: {memory.total / GIGA:.1f} GB {share}, nor with any change that is tried: take more devices."
    )


def _value_of(config: ConfigDict, key: str) -> object:
    for name in key.split("."):
        config = config[name]
    return config


def _remedies(config: ConfigDict) -> list[dict]:
    """Changes to try, those first that change nothing of the result."""
    splits = [{}] if _DEVICES.value == 1 else [{}, {"classifier.shards": _DEVICES.value}]
    layouts = [*splits, *({**splits[-1], "classifier.chunks": chunks} for chunks in CHUNKS)]
    uncached = [{**layout, "input.cache": "none"} for layout in layouts]
    counts = [2**power for power in range(1, HALVINGS + 1)]
    parts = [count for count in counts if config.model.batch_norm == "frozen"]
    parts = [{"batch_parts": count} for count in parts if config.batch_size % (_DEVICES.value * count) == 0]
    halved = [config.batch_size // count for count in counts if config.batch_size % (_DEVICES.value * count) == 0]
    others = [
        *parts,
        {"remat": "blocks"},
        {"model.dtype": "bfloat16"},
        *({"batch_size": size, "batch_parts": 1} for size in halved),
    ]
    sampled = {**uncached[-1], "classifier.sampled_share": SAMPLED_SHARE}
    return [
        *layouts,
        *uncached,
        *({**uncached[0], **other} for other in others),
        *({**uncached[-1], **other} for other in others),
        sampled,
        *({**sampled, **other} for other in others),
    ]


def _parse(argv: list[str]) -> list[str]:
    with one_sentence():
        config_flag.parse(argv, config=_CONFIG, required=(_IDENTITIES, _IMAGES, _MEMORY), command="lrfr_jax.plan")
        return argv[:1]


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
