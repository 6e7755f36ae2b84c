"""Writes MXNet RecordIO from its documented layout, for tests; as a program, a big pack of faces to measure with.

python tests/make_recordio.py FOLDER --gigabytes 5 [--faces 300]
"""

import argparse
import pathlib
import struct
from collections.abc import Iterable, Sequence

MAGIC = b"\x0a\x23\xd7\xce"  # 0xced7230a, little-endian
WHOLE, FIRST, MIDDLE, LAST = range(4)


def part(data: bytes, cflag: int = WHOLE, *, length: int | None = None) -> bytes:
    """One part: magic, three bits of kind and 29 of length, data, zeros up to a multiple of 4."""
    word = cflag << 29 | (len(data) if length is None else length)
    return MAGIC + struct.pack("<I", word) + data + bytes(-len(data) % 4)


def frame(data: bytes) -> bytes:
    """One record; where the magic stands at a multiple of 4, it is left out and a new part begins."""
    cuts = [place for place in range(0, len(data) - 3, 4) if data[place : place + 4] == MAGIC] if MAGIC in data else []
    if not cuts:
        return part(data)
    starts, stops = [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)]
    kinds = [FIRST, *[MIDDLE] * (len(cuts) - 1), LAST]
    return b"".join(part(data[start:stop], kind) for start, stop, kind in zip(starts, stops, kinds, strict=True))


def labeled(label: float | Sequence[float], key: int, content: bytes) -> bytes:
    """The data of an image record: flag, label, id, id2, several labels if there are, the image's file."""
    if isinstance(label, Sequence):
        return struct.pack("<IfQQ", len(label), 0, key, 0) + struct.pack(f"<{len(label)}f", *label) + content
    return struct.pack("<IfQQ", 0, label, key, 0) + content


def write(folder: pathlib.Path, records: Iterable[tuple[int, bytes]], *, name: str = "train") -> pathlib.Path:
    """Writes framed records and their keys as NAME.rec and NAME.idx, one at a time; returns the path of the .rec."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.rec", "wb") as rec, open(folder / f"{name}.idx", "w") as idx:
        for key, record in records:
            idx.write(f"{key}\t{rec.tell()}\n")
            rec.write(record)
    return folder / f"{name}.rec"


def with_header(identities: Sequence[tuple[int, Sequence[bytes]]]) -> list[tuple[int, bytes]]:
    """InsightFace's layout of (label, images): images from key 1 on, then a range of each identity, then the header."""
    records, ranges, key = [], [], 1
    for label, images in identities:
        ranges.append((key, key + len(images)))
        for image in images:
            records.append((key, frame(labeled(label, key, image))))
            key += 1
    records += [(key + i, frame(labeled(bounds, key + i, b""))) for i, bounds in enumerate(ranges)]
    return [*records, (0, frame(labeled((key, key + len(ranges)), 0, b"")))]


def _big_pack(folder: pathlib.Path, *, num_bytes: int, num_faces: int) -> int:
    from lrfr_jax.data import records, synthetic

    faces = [records.encode_image(synthetic.render_face(i // 3, i % 3, seed=0), quality=95) for i in range(num_faces)]
    num_images = round(num_bytes / (sum(map(len, faces)) / num_faces + 32))
    per_identity = 50
    images = (
        (key, frame(labeled((key - 1) // per_identity, key, faces[(key - 1) % num_faces])))
        for key in range(1, num_images + 1)
    )
    write(folder, images)
    starts = range(1, num_images + 1, per_identity)
    with open(folder / "train.rec", "ab") as rec, open(folder / "train.idx", "a") as idx:
        bounds = [(start, min(start + per_identity, num_images + 1)) for start in starts]
        last = num_images + 1 + len(bounds)
        header = [*enumerate(bounds, num_images + 1), (0, (num_images + 1, last))]
        for key, labels in header:
            idx.write(f"{key}\t{rec.tell()}\n")
            rec.write(frame(labeled(labels, key, b"")))
    (folder / "property").write_text(f"{len(bounds)},112,112\n")
    return num_images


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--faces", type=int, default=300)
    arguments = parser.parse_args()
    count = _big_pack(arguments.folder, num_bytes=round(arguments.gigabytes * 1e9), num_faces=arguments.faces)
    print(f"{count} images in {arguments.folder}")
