"""Measures the parts of the work for any config: images/s, compile time, operations, share of the peak, memory.

python -m lrfr_jax.benchmark --config configs/ms1m_r50.py:batch_size=128 --identities 85742
python -m lrfr_jax.benchmark --config configs/casia_r34.py:batch_size=8 --parts train_step --against torch
--config FILE.py or FILE.py:key=value,key=value is required; --config.group.field=value changes any number.
The parts take turns, so that a change of the machine's load meets all of them. No data is needed: images are noise on
the device, and where records are read, generated faces, or with --data_dir the set that the config names.
"""

import pathlib
import platform
import signal
import sys

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

from lrfr_jax.benchmark import devices, kernels, parts, reading, report, timing
from lrfr_jax.benchmark.setting import Part, Setting, make_setting
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.files import paths
from lrfr_jax.terminal import config_flag, progress

# Faces in the 6,000 pairs of LFW, each of which is embedded once.
LFW_IMAGES = 7701
PARTS = {
    "train_step": parts.train_step,
    "forward": parts.forward,
    "degradation": parts.degradation,
    "head": parts.head,
    "input": reading.decoding,
    "input_raw": reading.raw_decoding,
    "input_cached": reading.cached,
    "training": reading.training,
    "evaluation": reading.evaluation,
}
AGAINST = ("none", "torch")

_CONFIG = config_flag.define()
_PARTS = flags.DEFINE_list("parts", list(PARTS), f"What to measure: of {', '.join(PARTS)}.")
_IDENTITIES = flags.DEFINE_integer("identities", 10572, "Class centers of the classifier.", lower_bound=1)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Folder of prepared sets; generated faces are read without it.")
_TURNS = flags.DEFINE_integer("turns", 5, "How often each part has its turn.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 3.0, "Length of a turn, at least one call.", lower_bound=0, upper_bound=600)
_AGAINST = flags.DEFINE_enum("against", "none", AGAINST, "Takes turns with the same step and forward in PyTorch.")
_KERNELS = flags.DEFINE_bool("kernels", False, "Tells where a part's time goes, by JAX's profiler (GPUs, CPUs).")
_OUTPUT = flags.DEFINE_string("output", "", "FILE.json to write; a Markdown table is written beside it.")


def main(argv: list[str]) -> None:
    del argv  # in the flags
    logging.set_verbosity(logging.WARNING)  # TFDS tells every file that it writes
    with one_sentence():
        unknown = [name for name in _PARTS.value if name not in PARTS]
        if unknown or not _PARTS.value:
            raise UserError(f"--parts {','.join(_PARTS.value)}: choose of {', '.join(PARTS)}")
        paths.require_local({"data_dir": _DATA_DIR.value, "output": _OUTPUT.value})
        if _OUTPUT.value and not _OUTPUT.value.endswith(".json"):
            raise UserError(f"--output {_OUTPUT.value} must end in .json: the table is written beside it, as .md")
        # As with any other end the generated faces are removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        setting = make_setting(_CONFIG.value, num_identities=_IDENTITIES.value, data_dir=_DATA_DIR.value)
        # Before anything is compiled: PyTorch may be missing, or not know the network.
        theirs = _torch_parts(setting) if _AGAINST.value == "torch" else {}
        with progress.waiting("compiling what is measured"):
            made = {name: PARTS[name](setting) for name in dict.fromkeys(_PARTS.value)} | theirs
        with progress.waiting(f"measuring {', '.join(made)}"):
            measured = _measure(setting, made)
        sys.stdout.write(report.table(measured))
        if _OUTPUT.value:
            report.write(pathlib.Path(_OUTPUT.value), measured)


def _torch_parts(setting: Setting) -> dict[str, Part]:
    try:
        from lrfr_jax.benchmark import torch_step
    except ImportError as error:
        raise UserError(f"--against torch: {error}; install PyTorch (its CPU build does)") from error
    return torch_step.parts(setting)


def _measure(setting: Setting, made: dict[str, Part]) -> dict:
    timings = timing.take_turns(
        {name: part.run for name, part in made.items()}, turns=_TURNS.value, seconds=_SECONDS.value
    )
    config = setting.config
    peak, source = devices.peak(config.model.dtype)
    notes = {"MFU": f"operations by hand over {peak * setting.mesh.size / 1e12:.3g} Tera per second, by {source}"}
    memory = devices.peak_memory()
    if memory is not None:
        notes["most memory held by a device so far"] = f"{memory / 1e9:.2f} GB"
    for name in [name for name in made if name not in PARTS]:
        part = "forward" if name.startswith("evaluation in ") else "train_step"
        if part in timings:
            ours, theirs = timings[part], timings[name]
            ratio, cpu_ratio = theirs.median / ours.median, ours.median_cpu / theirs.median_cpu
            notes[f"{part} against {name}"] = f"{ratio:.2f} times its speed, {cpu_ratio:.2f} times its CPU time"
    if {"training", "evaluation"} <= made.keys() and config.eval_every_steps > 0:
        seconds = {name: timings[name].median / made[name].images for name in ("training", "evaluation")}
        notes |= _evaluation_shares(config, **seconds)
    if _KERNELS.value and jax.default_backend() == "cpu":
        notes["kernels"] = kernels.ON_CPU
    return {
        "setting": {
            "backbone": config.model.backbone,
            "width": config.model.width,
            "dtype": config.model.dtype,
            "batch": config.batch_size,
            "views": setting.views,
            "identities": _IDENTITIES.value,
            "devices": f"{setting.mesh.size} x {setting.mesh.devices.flat[0].device_kind} ({platform.machine()})",
            "jax": jax.__version__,
        },
        "parts": [report.row(name, part, timings[name], peak=peak * setting.mesh.size) for name, part in made.items()],
        "notes": notes,
        "kernels": {name: kernels.of_calls(made[name].run) for name in made if _KERNELS.value and name in PARTS},
    }


def _evaluation_shares(config: ConfigDict, *, training: float, evaluation: float) -> dict[str, str]:
    """What verification takes of a run's time, from the seconds of an image in training and in evaluation."""
    between = config.eval_every_steps * config.batch_size * training
    sizes = {1, *(1 + len(settings.resolutions) for settings in config.evals.values() if "resolutions" in settings)}
    taken = {count: LFW_IMAGES * count * evaluation for count in sorted(sizes)}
    every = f"every {config.eval_every_steps} steps"
    return {
        f"a set of LFW's size at {count} resolutions {every}": f"{seconds / (seconds + between):.2%} of the time"
        for count, seconds in taken.items()
    }


def _parse(argv: list[str]) -> list[str]:
    with one_sentence():
        config_flag.parse(argv, config=_CONFIG, required=(), command="lrfr_jax.benchmark")
        return argv[:1]


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
