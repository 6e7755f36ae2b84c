"""Training steps of several configs beside each other: their time on the clock and of the processor, and
temporary memory, in turns.

python benchmarks/steps.py --config configs/finetune_lfw_pubfig.py:batch_size=16 \
  --config configs/compatible_lfw_pubfig.py:batch_size=16 teacher.checkpoint=pretrained/y1

Each --config takes FILE.py or FILE.py:key=value,key=value, and fields to change after it, NAME=VALUE with the value as
JSON has it ('text' may stand bare). All are compared with the first. No data is needed: images are noise, or with
`--part training`, which reads records as a run does, generated faces. What an order of the images costs:

python benchmarks/steps.py --part training --config configs/quickstart.py \
  --config configs/quickstart.py input.order=identities input.images_per_identity=4
"""

import argparse
import json
import runpy

from ml_collections import ConfigDict

from lrfr_jax.benchmark import parts, reading, timing
from lrfr_jax.benchmark.setting import Part, make_setting
from lrfr_jax.errors import one_sentence

PARTS = {"train_step": parts.train_step, "training": reading.training}


def main() -> None:
    """Prints a row for each config."""
    options = _parser().parse_args()
    with one_sentence():
        settings = {
            " ".join(words): make_setting(_config(*words), num_identities=options.identities, data_dir="")
            for words in options.config
        }
        made = {name: PARTS[options.part](setting) for name, setting in settings.items()}
    found = timing.take_turns(
        {name: part.run for name, part in made.items()}, turns=options.turns, seconds=options.seconds
    )
    print("| step of | ms | of the first | spread | processor ms | of the first | temporary MB | of the first |")
    print("|---" * 8 + "|")
    rows = {name: _row(found[name], part, settings[name].config.batch_size) for name, part in made.items()}
    first = next(iter(rows.values()))
    for name, row in rows.items():
        time, cpu, memory = (
            f"{mine:.1f} | {mine / others:.3f}" if mine else " | " for mine, others in zip(row, first, strict=True)
        )
        print(f"| {name} | {time} | {found[name].spread:.0%} | {cpu} | {memory} |")


def _row(found: timing.Timing, part: Part, batch_size: int) -> tuple[float, float, float | None]:
    """Milliseconds of a step, the processor's, and megabytes where they are known."""
    steps = part.images / batch_size
    memory = part.temporary_bytes and part.temporary_bytes / 1e6
    return 1e3 * found.median / steps, 1e3 * found.median_cpu / steps, memory


def _config(name: str, *changes: str) -> ConfigDict:
    path, _, arg = name.partition(":")
    config = runpy.run_path(path)["get_config"](arg or None)
    for change in changes:
        field, _, text = change.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if isinstance(value, dict):  # of a group that may hold any names, as terms
            group, _, last = field.rpartition(".")
            (config[group] if group else config)[last] = value
        else:
            config.update_from_flattened_dict({field: value})
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", nargs="+", required=True, help="FILE.py:key=value NAME=VALUE ...")
    parser.add_argument("--part", choices=PARTS, default="train_step")
    parser.add_argument("--identities", type=int, default=1400)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    return parser


if __name__ == "__main__":
    main()
