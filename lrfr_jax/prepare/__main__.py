"""`python -m lrfr_jax.prepare KIND ...`: raw faces become a set that training and evaluation read.

Before that, `align` cuts faces out of photos; after it, `check` looks a set over.
"""

import argparse
from collections.abc import Sequence

from lrfr_jax.errors import one_sentence
from lrfr_jax.files import paths
from lrfr_jax.prepare import (
    align,
    bin,
    check,
    folder,
    gallery,
    generated,
    ijb,
    lfw,
    lmdb,
    pairs,
    parquet,
    raw,
    recordio,
    scface,
    survface,
    tinyface,
    xqlfw,
)

# A kind is a module with SUMMARY, EXAMPLE, add_arguments(add) and prepare(arguments) -> the line to print.
KINDS = {
    "folder": folder,
    "recordio": recordio,
    "parquet": parquet,
    "lmdb": lmdb,
    "pairs": pairs,
    "gallery": gallery,
    "bin": bin,
    "lfw": lfw,
    "xqlfw": xqlfw,
    "scface": scface,
    "tinyface": tinyface,
    "survface": survface,
    "ijb": ijb,
    "generated": generated,
    "raw": raw,
}
# What makes no set has run(arguments) instead, and declares all of its options itself.
TOOLS = {
    "align": align,
    "check": check,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Prepares the set that the command line asks for; prints one line, and exits with 1 on bad input."""
    arguments = _parser().parse_args(argv)
    with one_sentence():
        paths.require_local(vars(arguments))
        print(arguments.action(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lrfr_jax.prepare", description=__doc__)
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    for name, module in (KINDS | TOOLS).items():
        own = kinds.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=_Help,
        )
        own.set_defaults(action=module.prepare if name in KINDS else module.run)
        if name in KINDS:
            own.add_argument("--name", required=True, help="the set's name: letters, digits, '_' and '-'")
            own.add_argument(
                "--data_dir", required=True, help="folder of all sets; this one goes to DATA_DIR/NAME/1.0.0"
            )
        module.add_arguments(own.add_argument)
    return parser


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and the example as it is typed."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


if __name__ == "__main__":
    main()
