"""`prepare lmdb`: packs of key and value (data.mdb) become a training set."""

import argparse
from collections.abc import Callable

from lrfr_jax.prepare.packs import lmdb_file, lmdb_samples
from lrfr_jax.prepare.sets import streamed_sets, training_options

SUMMARY = "LMDB (data.mdb) of images with labels, in the layouts of several trainers and of Caffe -> training set"
EXAMPLE = "python -m lrfr_jax.prepare lmdb --source webface4m.lmdb --name webface --data_dir ~/faces --shards 64"


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add(
        "--source",
        required=True,
        action="append",
        help="the folder of data.mdb, or an LMDB that is one file. Its values are (image file, label) as msgpack, or "
        "as a pickle of which nothing is run, with their number under `__len__`; Datum of Caffe, an image file or raw "
        "pixels in the order blue, green, red; or image files under keys <identity>/<image>. May be repeated: "
        "identities of one name are one, numbers of several sources are not",
    )
    training_options.add_limits(add, order="that in which the file holds the values")
    training_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of the images in all packs; see `streamed_sets.prepare`."""
    return streamed_sets.prepare(
        arguments,
        kind="lmdb",
        find_files=lambda source: [lmdb_file.find(source)],
        open_file=lmdb_samples.open_file,
        to_remember={},
    )
