"""`prepare parquet`: Parquet files as Hugging Face's datasets come become a training set."""

import argparse
import functools
from collections.abc import Callable

from lrfr_jax.prepare.packs import parquet_file, parquet_sources
from lrfr_jax.prepare.packs.parquet_file import Columns
from lrfr_jax.prepare.sets import streamed_sets, training_options

SUMMARY = "Parquet files, also the folder of a Hugging Face dataset -> training set"
EXAMPLE = """python -m lrfr_jax.prepare parquet --source casia-webface --name casia --data_dir ~/faces
  python -m lrfr_jax.prepare parquet --source 'faces/data/train-*.parquet' --name many --data_dir ~/faces"""


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add(
        "--source",
        required=True,
        action="append",
        help="a Parquet file of 112x112 faces; a folder of them, as a dataset of Hugging Face is downloaded (README.md "
        "beside data/*.parquet), with one split; or a pattern, as 'data/train-*.parquet'. May be repeated: identities "
        "of one name are one, numbers of several sources are not",
    )
    add(
        "--image_column",
        metavar="NAME",
        help="the images: bytes of picture files, or structs of `bytes` and `path`; without it `image`, or the only "
        "column of that type",
    )
    add(
        "--label_column",
        metavar="NAME",
        help="the identities: names, or integers, which stand for the names that the file's schema or README.md gives "
        "if one does; without it `label`, or the only column of that type",
    )
    training_options.add_limits(add, order="that of the files and their rows")
    training_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of the images of all files, row group by row group; see `streamed_sets.prepare`."""
    columns = Columns(arguments.image_column, arguments.label_column)
    return streamed_sets.prepare(
        arguments,
        kind="parquet",
        find_files=parquet_sources.find_files,
        open_file=functools.partial(parquet_file.open_file, columns=columns),
        to_remember={f"{name}_column": column for name, column in columns._asdict().items()},
    )
