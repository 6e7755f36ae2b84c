"""`python -m lrfr_jax.analysis.figures KIND ...`: a figure of the paper from checkpoints, and the data behind it.

Each kind writes a PNG and, beside it, an NPZ of the same name with the arrays that were drawn.
"""

import argparse
import io
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from lrfr_jax.analysis.figures import (
    derivatives,
    dimension_errors,
    gradient_norm,
    pca,
    resolution,
    roc,
    similarities,
    tsne,
)
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.files import paths

# A kind is a module with SUMMARY, EXAMPLE, add_arguments(add) and draw(arguments, png) -> the arrays behind the PNG.
KINDS = {
    "similarities": similarities,
    "resolution": resolution,
    "gradient_norm": gradient_norm,
    "tsne": tsne,
    "derivatives": derivatives,
    "roc": roc,
    "dimension_errors": dimension_errors,
    "pca": pca,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figure that the command line asks for; prints where it is, and exits with 1 on bad input."""
    arguments = _parser().parse_args(argv)
    with one_sentence():
        paths.require_local(vars(arguments))
        png = png_of(arguments.output, arguments.kind)
        paths.check_file(png)
        paths.check_file(png.with_suffix(".npz"))
        try:
            _make(arguments, png)
        except OSError as error:  # of a write or, as it names its file itself, of a read
            raise UserError(f"the figure of --output {arguments.output} cannot be made: {error}") from error
        print(f"figure: {png}\ndata:   {png.with_suffix('.npz')}")


def _make(arguments: argparse.Namespace, png: pathlib.Path) -> None:
    """Draws elsewhere and writes the arrays before the PNG, so that both belong together or none is there."""
    partial = png.with_name(f".{png.stem}.{os.getpid()}.partial.png")
    with tempfile.TemporaryDirectory() as folder:
        drawn = pathlib.Path(folder) / png.name
        data = KINDS[arguments.kind].draw(arguments, drawn)
        content = drawn.read_bytes()
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        save_arrays(png.with_suffix(".npz"), data)
        os.replace(partial, png)
    finally:
        partial.unlink(missing_ok=True)


def png_of(output: str, kind: str) -> pathlib.Path:
    """The figure's file: the output itself if it ends in .png, else KIND.png in that folder."""
    path = pathlib.Path(output)
    return path if path.suffix == ".png" else path / f"{kind}.png"


def save_arrays(path: pathlib.Path, data: Mapping[str, np.ndarray]) -> None:
    """Writes the NPZ whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **data)
    paths.write_bytes(path, content.getvalue())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lrfr_jax.analysis.figures", description=__doc__)
    kinds = parser.add_subparsers(metavar="KIND", required=True, dest="kind")
    for name, module in KINDS.items():
        own = kinds.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(own.add_argument)
        own.add_argument("--output", required=True, help=f"folder for {name}.png and {name}.npz, or the PNG's own name")
    return parser


if __name__ == "__main__":
    main()
