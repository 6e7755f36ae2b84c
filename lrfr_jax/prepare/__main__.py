"""`python -m lrfr_jax.prepare KIND ...`: raw faces become a set that training and evaluation read."""

import argparse
from collections.abc import Sequence

from lrfr_jax.errors import one_sentence
from lrfr_jax.prepare import folder, generated, pairs

_EXAMPLES = {
    "folder": """example:
  python -m lrfr_jax.prepare folder --source casia112.tar --name casia --data_dir ~/faces \\
      --exclude_identities ~/faces/lfw/1.0.0/identities.txt""",
    "pairs": """example:
  python -m lrfr_jax.prepare pairs --source lfw112.tar --pairs pairs.txt --name lfw --data_dir ~/faces""",
    "generated": """examples:
  python -m lrfr_jax.prepare generated --name drawn --data_dir ~/faces --identities 300 --images_per_identity 20
  python -m lrfr_jax.prepare generated --name drawn_pairs --data_dir ~/faces --identities 200 --images_per_identity 6 \\
      --first_identity 300 --pairs 1200""",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Prepares the set that the command line asks for; prints one line, and exits with 1 on bad input."""
    arguments = _parser().parse_args(argv)
    with one_sentence():
        print(arguments.prepare(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lrfr_jax.prepare", description=__doc__)
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    _add_folder(kinds)
    _add_pairs(kinds)
    _add_generated(kinds)
    return parser


def _add_kind(kinds: argparse._SubParsersAction, kind: str, prepare, summary: str) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        kind,
        help=summary,
        description=summary,
        epilog=_EXAMPLES[kind],
        formatter_class=_Help,
    )
    parser.set_defaults(prepare=prepare)
    parser.add_argument("--name", required=True, help="the set's name: letters, digits, '_' and '-'")
    parser.add_argument("--data_dir", required=True, help="folder of all sets; this one goes to DATA_DIR/NAME/1.0.0")
    return parser


def _add_folder(kinds: argparse._SubParsersAction) -> None:
    add = _add_kind(
        kinds, "folder", folder.prepare, "aligned faces in folders, one per identity -> training set"
    ).add_argument
    add(
        "--source",
        required=True,
        action="append",
        help="folder or uncompressed tar of <identity>/<image>, or of <root>/<identity>/<image>, 112x112 JPEG, PNG or "
        "WebP; may be repeated, identities of one name are merged",
    )
    add("--shards", type=int, default=8, help="files to spread the set over")
    add(
        "--exclude_identities",
        metavar="FILE",
        help="identities to leave out, one a line (identities.txt of a test set)",
    )
    add("--only_identities", metavar="FILE", help="identities to take, one a line; the others are left out")
    add(
        "--on_error",
        choices=("error", "skip"),
        default="error",
        help="what a bad image does: end the command with nothing written, or be left out and listed in skipped.txt",
    )


def _add_pairs(kinds: argparse._SubParsersAction) -> None:
    add = _add_kind(kinds, "pairs", pairs.prepare, "pairs file in the format of LFW -> verification set").add_argument
    add(
        "--source", required=True, help="folder or uncompressed tar with <Name>/<Name>_0001.jpg (or .jpeg, .png, .webp)"
    )
    add(
        "--pairs",
        required=True,
        metavar="FILE",
        help="the pairs file: `folds<TAB>n`, then n matched, n mismatched a fold",
    )
    add("--folds", type=_folds, help="folds to take, counted from 1, as in 9,10; all if not given")


def _add_generated(kinds: argparse._SubParsersAction) -> None:
    summary = "drawn faces of made-up identities -> training set, or verification set with --pairs"
    add = _add_kind(kinds, "generated", generated.prepare, summary).add_argument
    add("--identities", type=int, required=True, help="how many identities")
    add("--images_per_identity", type=int, required=True, help="images of each identity (with --pairs: to choose from)")
    add("--first_identity", type=int, default=0, help="number of the first; sets with other numbers share no identity")
    add("--seed", type=int, default=0, help="seed of the faces and of the choice of pairs")
    add("--shards", type=int, default=8, help="files to spread the set over")
    add(
        "--pairs", type=int, help="make a verification set of so many pairs in 10 folds, half matched; a multiple of 20"
    )


def _folds(text: str) -> list[int]:
    try:
        return sorted({int(fold) for fold in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be fold numbers with commas between, as in 9,10") from None


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and the example as it is typed."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


if __name__ == "__main__":
    main()
