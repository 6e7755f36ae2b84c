"""One test set through three doors: a folder with pairs.txt, InsightFace's .bin, and images that went through a .rec.

python tests/three_doors.py --source lfw112.tar --pairs pairs.txt --checkpoint runs/maug/checkpoints/2000

It writes the .bin and the .rec itself, prepares all three, and prints the fold accuracies of one model on each.
"""

import argparse
import contextlib
import io
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lrfr_jax import models
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets
from lrfr_jax.evals import embed, evaluation
from lrfr_jax.pictures import sources
from lrfr_jax.prepare import __main__ as prepare
from lrfr_jax.prepare.lists import pairs_file
from tests import make_recordio
from tests.prepare import bin_writer

DOORS = ("folder", "bin", "recordio")


def prepare_all(source: str, pairs_path: str, folder: pathlib.Path) -> str:
    """Makes the sets `folder`, `bin` and `recordio`; returns their data_dir."""
    data_dir = str(folder / "sets")
    images = sources.list_images(source).images
    by_stem = {image.name.rsplit(".", 1)[0]: sources.read_image(image) for image in images}
    listed = pairs_file.parse_pairs(pathlib.Path(pairs_path).read_text(), path=pairs_path)
    encoded = [by_stem[stem] for pair in listed for stem in (pair.first, pair.second)]
    (folder / "faces.bin").write_bytes(bin_writer.write(encoded, [pair.is_same for pair in listed], (2, 2, "strings")))
    with contextlib.redirect_stdout(io.StringIO()):
        target = ["--data_dir", data_dir]
        prepare.main(["pairs", "--source", source, "--pairs", pairs_path, "--name", "folder", *target])
        prepare.main(["bin", "--source", str(folder / "faces.bin"), "--name", "bin", *target])
        derived = _through_recordio(by_stem, folder, target)
        prepare.main(["pairs", "--source", derived, "--pairs", pairs_path, "--name", "recordio", *target])
    return data_dir


def _through_recordio(by_stem: dict[str, bytes], folder: pathlib.Path, target: list[str]) -> str:
    """Writes all images as a pack, makes a training set of it, and writes that set's records as image files."""
    identities: dict[str, list[str]] = {}
    for stem in by_stem:
        identities.setdefault(stem.split("/")[0], []).append(stem)
    packed = [(label, [by_stem[stem] for stem in stems]) for label, stems in enumerate(identities.values())]
    make_recordio.write(folder / "pack", make_recordio.with_header(packed))
    prepare.main(["recordio", "--source", str(folder / "pack"), "--name", "packed", *target])
    stems = [stem for stems in identities.values() for stem in stems]
    for stem, record in zip(stems, face_sets.open_training_set(target[1], "packed").source, strict=True):
        path = folder / "unpacked" / f"{stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record["image"])
    return str(folder / "unpacked")


def fold_accuracies(
    data_dir: str, backbone, variables, *, resolutions: tuple[int, ...]
) -> dict[str, list[list[float]]]:
    """Returns, for each door, the fold accuracies of every comparison."""
    settings = {"protocol": "insightface", "resolutions": resolutions}
    planned = evaluation.plan(data_dir, {door: settings for door in DOORS})
    embedder = embed.make_embedder(backbone, sizes=evaluation.sizes_of(planned), rounding="uint8")
    reading = {"batch_size": 64, "num_threads": 2}
    results = evaluation.run(planned, embedder, variables, rounding="uint8", cache=None, **reading)
    return {
        door: [comparison.accuracy.fold_accuracies.tolist() for comparison in result.outcome.comparisons]
        for door, result in results.items()
    }


def main() -> None:
    """Prints the fold accuracies; exits with 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("source", "pairs", "checkpoint"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    variables, metadata = checkpoint.load_backbone(options.checkpoint)
    backbone = models.create_backbone(**metadata["model"])
    with tempfile.TemporaryDirectory() as folder:
        data_dir = prepare_all(options.source, options.pairs, pathlib.Path(folder))
        found = fold_accuracies(data_dir, backbone, variables, resolutions=(14,))
    for door, accuracies in found.items():
        print(
            f"{door:9}", *(" ".join(f"{100 * accuracy:.2f}" for accuracy in folds) for folds in accuracies), sep=" | "
        )
    if any(accuracies != found["folder"] for accuracies in found.values()):
        sys.exit("the doors differ")


if __name__ == "__main__":
    main()
