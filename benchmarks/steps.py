"""Training steps of several configs beside each other: their time on the clock and of the processor, and
temporary memory, in turns.

python benchmarks/steps.py --config configs/finetune_lfw_pubfig.py:batch_size=16 \
  --config configs/compatible_lfw_pubfig.py:batch_size=16 teacher.checkpoint=pretrained/y1

Each --config takes FILE.py or FILE.py:key=value,key=value, and fields to change after it, NAME=VALUE with the value as
JSON has it ('text' may stand bare). All are compared with the first. No data is needed: images are noise.
"""

import argparse
import json
import runpy

from ml_collections import ConfigDict

from lrfr_jax.benchmark import parts, timing
from lrfr_jax.benchmark.setting import make_setting
from lrfr_jax.errors import one_sentence


def main() -> None:
    """Prints a row for each config."""
    options = _parser().parse_args()
    with one_sentence():
        made = {
            " ".join(words): parts.train_step(
                make_setting(_config(*words), num_identities=options.identities, data_dir="")
            )
            for words in options.config
        }
    found = timing.take_turns(
        {name: part.run for name, part in made.items()}, turns=options.turns, seconds=options.seconds
    )
    first = next(iter(made))
    print("| step of | ms | of the first | spread | processor ms | of the first | temporary MB | of the first |")
    print("|---" * 8 + "|")
    for name, part in made.items():
        mine, others = found[name], found[first]
        time, cpu = mine.median / others.median, mine.median_cpu / others.median_cpu
        memory = part.temporary_bytes / made[first].temporary_bytes
        print(
            f"| {name} | {1e3 * mine.median:.1f} | {time:.3f} | {mine.spread:.0%} | {1e3 * mine.median_cpu:.1f} | "
            f"{cpu:.3f} | {part.temporary_bytes / 1e6:.1f} | {memory:.3f} |"
        )


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
    parser.add_argument("--identities", type=int, default=1400)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    return parser


if __name__ == "__main__":
    main()
