"""Embeds the faces of a folder.

python -m lrfr_jax.embed --checkpoint runs/maug --images faces --output faces.npz
"""

import argparse
import json
import sys
from collections.abc import Sequence

from lrfr_jax import embeddings_file, model_options
from lrfr_jax.embeddings_file import EmbeddingsFile
from lrfr_jax.errors import one_sentence


def main(argv: Sequence[str] | None = None) -> int:
    """Embeds as the command line says; returns the exit status.

    Raises:
      UserError: a bad option or checkpoint, no images, or not one that can be used.
    """
    options = _parser().parse_args(argv)
    target = embeddings_file.check_target(options.output, flag="--output")
    images, unreadable = model_options.list_pictures(options.images, flag="--images")
    source = model_options.faces_of(options, images)
    embedder = model_options.load(options)
    found = embedder.embed_faces(source, resolution=options.resolution)
    good = [place for place in range(len(images)) if place not in source.problems]
    unreadable |= {images[place].path: reason for place, reason in sorted(source.problems.items())}
    if not good:
        source.require_all()
    held = EmbeddingsFile(
        paths=[images[place].path for place in good],
        embeddings=found.vectors[good],
        norms=found.norms[good],
        unreadable=list(unreadable),
        reasons=list(unreadable.values()),
        model=embedder.digest,
        fusion=embedder.fusion,
        resolution=options.resolution,
    )
    embeddings_file.write(target, held)
    if options.json:
        print(json.dumps({"output": str(target), "embedded": len(good), "unreadable": unreadable}))
    else:
        print(f"{len(good)} embeddings of {held.embeddings.shape[1]} numbers are in {target}")
        for path, reason in unreadable.items():
            print(f"left out: {path} {reason}", file=sys.stderr)
    return model_options.DONE_BUT if unreadable else 0


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
