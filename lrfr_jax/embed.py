"""Embeds the faces of a folder.

python -m lrfr_jax.embed --checkpoint runs/maug --images faces --output faces.npz
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.trained import embeddings_file, model_options
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model_options import Folder


def main(argv: Sequence[str] | None = None) -> int:
    """Embeds as the command line says; returns the exit status.

    Raises:
      UserError: a bad option or checkpoint, no images, or not one that can be used.
    """
    options = _parser().parse_args(argv)
    if not options.output.endswith(embeddings_file.SUFFIX):
        raise UserError(f"--output {options.output} must end in {embeddings_file.SUFFIX}")
    model_options.check_new(options, "output")
    folder = model_options.open_folder(options, options.images, flag="--images")
    embedder = model_options.load(options)
    held, dim = _embed(options, embedder, folder)
    unreadable = folder.with_problems()
    if options.json:
        print(json.dumps({"output": options.output, "embedded": held, "unreadable": unreadable}))
    else:
        print(f"{held} embeddings of {dim} numbers are in {options.output}")
    model_options.tell_unreadable(unreadable)
    return model_options.DONE_BUT if unreadable else 0


def _embed(options: argparse.Namespace, embedder: Embedder, folder: Folder) -> tuple[int, int]:
    """Writes the file, in memory that grows with the paths alone; returns how many embeddings of how many numbers."""
    used, dim = [], 0
    with embeddings_file.Writer(pathlib.Path(options.output)) as file:
        for places, part in embedder.stream_faces(folder.source, resolution=options.resolution):
            file.add(part.vectors, part.norms)
            used += [folder.paths[place] for place in places.tolist()]
            dim = part.vectors.shape[1]
        if not used:
            folder.source.require_all()
        model_options.warn_of_large(embedder, folder.source, resolution=options.resolution)
        unreadable = folder.with_problems()
        file.finish(
            paths=used,
            unreadable=list(unreadable),
            reasons=list(unreadable.values()),
            model=embedder.digest,
            fusion=embedder.fusion,
            resolution=options.resolution,
            fits=list(embedder.fits),
        )
    return len(used), dim


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.embed",
        description="Embeds the aligned 112x112 faces of a folder or a tar, at any depth.",
        epilog="FILE.npz holds paths, embeddings (unit length), norms (of the raw features), unreadable and reasons, "
        "model, fusion, resolution and fits (digests of other models' weights that these embeddings fit). Exit status: "
        "0 all embedded, 3 some images are unusable and listed, 1 error.",
    )
    model_options.add_model(parser)
    parser.add_argument("--images", required=True, metavar="DIR", help="folder or uncompressed tar")
    parser.add_argument("--output", required=True, metavar="FILE.npz", help="file to make")
    model_options.add_pictures(parser)
    model_options.add_resolution(parser, "each face is")
    parser.add_argument("--json", action="store_true", help="print json")
    return parser


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main(sys.argv[1:]))
