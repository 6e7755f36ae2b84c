"""Finds the faces of a gallery that are most similar to each probe, exactly.

python -m lrfr_jax.search --checkpoint runs/maug --gallery enrolled --probes cameras --output hits.csv --sheet hits.png
"""

import argparse
import csv
import io
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax.checkpoints import compatibility
from lrfr_jax.checkpoints.compatibility import SHOWN
from lrfr_jax.data import records
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import search
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.pictures import contact_sheet
from lrfr_jax.pictures.faces import Faces
from lrfr_jax.terminal import progress
from lrfr_jax.trained import embeddings_file, model_options
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model_options import Folder

# Of the scores that exist at a time.
MEMORY_BYTES = 256 * 2**20
COLUMNS = ("probe", "rank", "gallery", "similarity")


class Side(NamedTuple):
    """The gallery or the probes: unit vectors with their paths, and the pictures where these were given."""

    paths: list[str]
    vectors: np.ndarray
    unreadable: dict[str, str]
    model: str
    spaces: frozenset[str]
    faces: list[tuple[Faces, int]] | None


def main(argv: Sequence[str] | None = None) -> int:
    """Searches as the command line says; returns the exit status.

    Raises:
      UserError: a bad option, checkpoint or file, or embeddings of different models.
    """
    options = _parser().parse_args(argv)
    _check(options)
    found = [_open(options, value, flag) for flag, value in _sides(options).items()]
    embedder = model_options.load(options) if options.checkpoint else None
    # A gallery is its own model's alone, which reads of the probes the large ones.
    readers = ((embedder and embedder.gallery) or embedder, embedder)
    _check_fit(options, found, readers)
    gallery, probes = (
        side if isinstance(side, Side) else _embed(reader, side, what, size)
        for side, reader, what, size in zip(
            found, readers, ("gallery", "probes"), (IMAGE_SIZE, options.resolution), strict=True
        )
    )
    with progress.waiting(f"searching {len(gallery.paths)} faces for {len(probes.paths)}"):
        places, scores = search.nearest(probes.vectors, gallery.vectors, count=options.top, memory_bytes=MEMORY_BYTES)
    rows = [
        (probe, rank, gallery.paths[place], float(score))
        for probe, hits, values in zip(probes.paths, places, scores, strict=True)
        for rank, (place, score) in enumerate(zip(hits, values, strict=True), 1)
    ]
    unreadable = {"gallery": gallery.unreadable, "probes": probes.unreadable}
    _write(options, rows, unreadable)
    if options.sheet:
        _draw(pathlib.Path(options.sheet), options.sheet_probes, gallery, probes, places, scores)
    for side in unreadable.values():
        model_options.tell_unreadable(side)
    return model_options.DONE_BUT if any(unreadable.values()) else 0


def _check_fit(options: argparse.Namespace, found: Sequence[Side | Folder], readers: Sequence[Embedder | None]) -> None:
    """Raises `UserError` unless the embeddings of both sides, made or to be made, can be compared."""
    spaces = [
        side.spaces if isinstance(side, Side) else reader.spaces for side, reader in zip(found, readers, strict=True)
    ]
    if spaces[0] & spaces[1]:
        return
    made_by = (_made_by(side, reader) for side, reader in zip(found, readers, strict=True))
    told = "; ".join(f"{value}: {words}" for value, words in zip(_sides(options).values(), made_by, strict=True))
    raise UserError(
        f"{options.gallery} and {options.probes} were not embedded by the same model, fusion and centering, nor by "
        f"models of which one was trained to fit the other ({told}): embed both with one model, or with two that fit"
    )


def _made_by(side: Side | Folder, reader: Embedder | None) -> str:
    if isinstance(side, Side):
        return f"model {side.model[:SHOWN]}"
    return f"model {reader.digest[:SHOWN]} of {reader.path} {compatibility.in_words((reader.weights, *reader.fits))}"


def _check(options: argparse.Namespace) -> None:
    for name in ("top", "sheet_probes"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)} must be at least 1")
    files = _sides(options)
    folders = [flag for flag, value in files.items() if not _is_file(value)]
    if folders and not options.checkpoint:
        raise UserError(f"{folders[0]} {files[folders[0]]} is to be embedded: give --checkpoint, or an npz of it")
    if options.sheet and len(folders) < len(files):
        raise UserError("--sheet shows pictures: give folders as --gallery and --probes, not embeddings")
    _check_effects(options, embeds=bool(folders))
    model_options.check_new(options, "output", "sheet")


def _check_effects(options: argparse.Namespace, *, embeds: bool) -> None:
    """Raises `UserError` for an option that changes nothing, as what it is about was embedded before."""
    idle = ["resolution"] if _is_file(options.probes) and options.resolution != IMAGE_SIZE else []
    idle += ["batch_size"] if options.batch_size != model_options.BATCH_SIZE and not embeds else []
    idle += ["centering"] if options.centering != "none" and not embeds else []
    given = ("resize", "align", "fusion", "checkpoint", "gallery_checkpoint", "gallery_from")
    idle += [name for name in given if getattr(options, name) and not embeds]
    if idle:
        what = "--probes" if embeds else "--gallery and --probes"
        raise UserError(f"--{idle[0]} does nothing with embeddings as {what}: give it to `lrfr_jax.embed` instead")


def _is_file(value: str) -> bool:
    return value.endswith(embeddings_file.SUFFIX)


def _sides(options: argparse.Namespace) -> dict[str, str]:
    return {"--gallery": options.gallery, "--probes": options.probes}


def _open(options: argparse.Namespace, value: str, flag: str) -> Side | Folder:
    """Reads embeddings, or looks at the pictures of a folder."""
    if not _is_file(value):
        return model_options.open_folder(options, value, flag=flag)
    held = embeddings_file.read(value, flag=flag)
    # What the file left out was told when it was made.
    return Side(held.paths, held.embeddings, {}, held.model, held.spaces, None)


def _embed(embedder: Embedder, folder: Folder, what: str, resolution: int) -> Side:
    found = embedder.embed_faces(folder.source, resolution=resolution, what=f"embedding the {what}")
    good = [place for place in range(len(folder.paths)) if place not in folder.source.problems]
    if not good:
        folder.source.require_all()
    model_options.warn_of_large(embedder, folder.source, resolution=resolution)
    pictures = [(folder.source, place) for place in good]
    names = [folder.paths[place] for place in good]
    return Side(names, found.vectors[good], folder.with_problems(), embedder.digest, embedder.spaces, pictures)


def _write(options: argparse.Namespace, rows: list[tuple], unreadable: dict[str, dict[str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *((*row[:-1], f"{row[-1]:.6f}") for row in rows)])
    if options.output:
        contact_sheet.write_whole(pathlib.Path(options.output), text.getvalue().encode())
    if options.json:
        print(json.dumps({"hits": [dict(zip(COLUMNS, row, strict=True)) for row in rows], "unreadable": unreadable}))
    elif options.output:
        print(f"{len(rows)} hits are in {options.output}")
    else:
        print(text.getvalue(), end="")


def _draw(path: pathlib.Path, count: int, gallery: Side, probes: Side, places: np.ndarray, scores: np.ndarray) -> None:
    """Draws a row for each of the first probes: itself, then what was found."""

    def picture(side: Side, place: int) -> np.ndarray:
        source, number = side.faces[place]
        return records.decode_image(source[number]["image"])

    faces, titles = [], []
    for probe in range(min(count, len(probes.paths))):
        faces += [picture(probes, probe), *(picture(gallery, place) for place in places[probe].tolist())]
        titles += [probes.paths[probe], *(f"{score:.3f}" for score in scores[probe])]
    contact_sheet.save_png(path, contact_sheet.draw_sheet(faces, titles, columns=1 + places.shape[1]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.search",
        description="The most similar faces of a gallery for each probe, exactly and in bounded memory.",
        epilog="Exit status: 0 done, 3 some images were unusable and are listed, 1 error.",
    )
    model_options.add_model(parser, required=False)
    parser.add_argument("--gallery", required=True, metavar="DIR", help="folder, tar, or an npz of lrfr_jax.embed")
    parser.add_argument("--probes", required=True, metavar="DIR", help="folder, tar, or an npz of lrfr_jax.embed")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="hits for each probe (default 5)")
    parser.add_argument("--output", metavar="FILE.csv", help=f"{','.join(COLUMNS)}; printed if not given")
    parser.add_argument("--sheet", metavar="FILE.png", help="picture of probes and what was found for them")
    parser.add_argument("--sheet_probes", type=int, default=20, metavar="N", help="rows of it (default 20)")
    model_options.add_pictures(parser)
    model_options.add_resolution(parser, "probes are")
    parser.add_argument("--json", action="store_true", help="print json")
    return parser


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main(sys.argv[1:]))
