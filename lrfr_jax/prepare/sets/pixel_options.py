"""What becomes of a picture's pixels on its way into a set: `--resize`, `--order`, and the bytes that are stored."""

import argparse
import itertools
import multiprocessing.pool
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tqdm import tqdm

from lrfr_jax.pictures import photos, resize
from lrfr_jax.pictures.sources import num_workers

_CHUNK = 1024  # images that are converted before the first of them is written: bounds the memory


class PixelOptions(NamedTuple):
    """Whether pictures of other sizes are taken, and in which order the files hold their colors."""

    resize: bool
    order: str

    @property
    def keeps_bytes(self) -> bool:
        """Whether every picture in a format that records hold is stored as the file that it is."""
        return not self.resize and self.order == resize.RGB

    def check(self, encoded: bytes) -> None:
        """Decodes a picture; a `ValueError` says why it cannot be stored."""
        resize.decode(encoded, resize=self.resize)

    def to_record(self, encoded: bytes) -> bytes:
        """Returns what is stored of a picture that was checked; `ValueError` where it has changed."""
        if self.keeps_bytes and photos.can_be_held(encoded):
            return encoded  # not decoded once more
        return resize.to_record(encoded, resize=self.resize, order=self.order)

    def remembered(self) -> dict[str, Any]:
        """The options as a set keeps them; the defaults leave nothing, as in sets made before there were any."""
        order = {} if self.order == resize.RGB else {"order": self.order}
        return order | ({"resize": True} if self.resize else {})


def add_arguments(add: Callable) -> None:
    """Declares both options; `add` is the parser's `add_argument`."""
    add_resize(add)
    add_order(add)


def add_resize(add: Callable) -> None:
    """Declares `--resize`."""
    add(
        "--resize",
        action="store_true",
        help="bring images that are not 112x112 to that size (bicubic), unaligned as they are, instead of refusing "
        "them",
    )


def add_order(add: Callable) -> None:
    """Declares `--order`."""
    add(
        "--order",
        choices=resize.ORDERS,
        default=resize.RGB,
        help="of the colors in the files: bgr exchanges red and blue and stores the images anew as PNG, which loses "
        "nothing; for a set in which `check` finds them exchanged",
    )


def read(arguments: argparse.Namespace) -> PixelOptions:
    """The options of a command line that has both."""
    return PixelOptions(arguments.resize, arguments.order)


def converted(tasks: Iterable[Any], convert: Callable[[Any], Any], *, total: int, what: str = "write") -> Iterator[Any]:
    """Yields `convert(task)` in order, computed by all cores, with a progress bar that says `what` is done."""
    remaining = iter(tasks)
    with (
        multiprocessing.pool.ThreadPool(num_workers()) as pool,
        tqdm(total=total, desc=what, unit=" images", disable=None) as bar,
    ):
        while chunk := list(itertools.islice(remaining, _CHUNK)):
            for encoded in pool.map(convert, chunk):
                bar.update()
                yield encoded
