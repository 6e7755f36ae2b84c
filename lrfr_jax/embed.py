"""Embeds the faces of a folder.

python -m lrfr_jax.embed --checkpoint runs/maug --images faces --output faces.npz
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

from lrfr_jax import embeddings_file, model_options
from lrfr_jax.embeddings_file import EmbeddingsFile
from lrfr_jax.errors import UserError, one_sentence


def main(argv: Sequence[str] | None = None) -> int:
    """Embeds as the command line says; returns the exit status.

    Raises:
      UserError: a bad option or checkpoint, no images, or not one that can be used.
    """
    options = _parser().parse_args(argv)
    if not options.output.endswith(embeddings_file.SUFFIX):
        raise UserError(f"--output {options.output} must end in {embeddings_file.SUFFIX}")
    model_options.check_new(options, "output")
    embedder = model_options.load(options)
    found = model_options.embed_folder(
        options, embedder, options.images, flag="--images", resolution=options.resolution
    )
    held = EmbeddingsFile(
        paths=found.paths,
        embeddings=found.embeddings.vectors,
        norms=found.embeddings.norms,
        unreadable=list(found.unreadable),
        reasons=list(found.unreadable.values()),
        model=embedder.digest,
        fusion=embedder.fusion,
        resolution=options.resolution,
    )
    embeddings_file.write(pathlib.Path(options.output), held)
    if options.json:
        print(json.dumps({"output": options.output, "embedded": len(held.paths), "unreadable": found.unreadable}))
    else:
        print(f"{len(held.paths)} embeddings of {held.embeddings.shape[1]} numbers are in {options.output}")
    model_options.tell_unreadable(found.unreadable)
    return model_options.DONE_BUT if found.unreadable else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.embed",
        description="Embeds the aligned 112x112 faces of a folder or a tar, at any depth.",
        epilog="FILE.npz holds paths, embeddings (unit length), norms (of the raw features), unreadable and reasons, "
        "model, fusion and resolution. Exit status: 0 all embedded, 3 some images are unusable and listed, 1 error.",
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
