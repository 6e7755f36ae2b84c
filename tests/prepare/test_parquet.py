import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrfr_jax.data import face_sets, records
from lrfr_jax.prepare.packs import parquet_file
from tests.prepare import packed
from tests.prepare.packed import face

_ROWS = [("Ann", 10), ("Bob", 20), ("Ann", 30), ("Cid", 40), ("Bob", 50)]

_STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def _structs(grays):
    return [{"bytes": None if gray is None else face(gray), "path": f"{gray}.jpg"} for gray in grays]


def _write(path, images, labels, *, names=None, group=2, image="image", label="label", **more):
    """Writes a file as `datasets` does; `names` are those of a ClassLabel."""
    table = pa.table({image: images, label: labels, **more})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return path


def _faces(path, rows=_ROWS, **options):
    """A file of (name, gray) with the labels of a ClassLabel."""
    names = sorted({name for name, _ in rows})
    return _write(
        path, _structs(gray for _, gray in rows), [names.index(name) for name, _ in rows], names=names, **options
    )


def test_images_keep_the_order_of_rows_and_labels_have_the_names_of_the_schema(tmp_path, capsys):
    packed.prepare(tmp_path, "parquet", _faces(tmp_path / "x.parquet"))
    assert packed.content(tmp_path) == _ROWS
    assert capsys.readouterr().out.startswith("5 images of 3 identities, 0 skipped, 1 file, 1 shards, ")
    assert face_sets.open_training_set(str(tmp_path / "sets"), "faces").source[1]["image"] == face(20)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_labels_may_be_names_and_images_plain_bytes(tmp_path, kind):
    labels = pa.array([name for name, _ in _ROWS]).cast(kind)
    path = _write(tmp_path / "x.parquet", [face(gray) for _, gray in _ROWS], labels, image="face", label="person")
    packed.prepare(tmp_path, "parquet", path)
    assert packed.content(tmp_path) == _ROWS


def test_labels_without_names_are_numbers(tmp_path):
    path = _write(tmp_path / "x.parquet", _structs(range(3)), pa.array([10, 2, 10], pa.int32()))
    packed.prepare(tmp_path, "parquet", path)
    assert packed.content(tmp_path) == [("10", 0), ("2", 1), ("10", 2)]


_README = """---
license: mit
dataset_info:
{indent}features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': Ann
          '1': Bob
---
# Faces
"""


@pytest.mark.parametrize("indent", ["  ", "- config_name: default\n  "])
def test_a_dataset_folder_is_read_with_the_names_of_its_readme(tmp_path, indent):
    root = tmp_path / "faces"
    for shard in range(3):
        _write(root / f"data/train-{shard:05d}-of-00003.parquet", _structs([shard, 10 + shard]), [0, 1])
    (root / "README.md").write_text(_README.format(indent=indent))
    _write(root / ".cache/old.parquet", _structs([99]), [0])
    packed.prepare(tmp_path, "parquet", root)
    assert packed.content(tmp_path) == [("Ann", 0), ("Bob", 10), ("Ann", 1), ("Bob", 11), ("Ann", 2), ("Bob", 12)]


def test_splits_of_a_folder_are_not_mixed_unless_a_pattern_says_so(tmp_path, capsys):
    root = tmp_path / "faces"
    _faces(root / "data/train-00000-of-00002-0123456789abcdef.parquet")
    _faces(root / "data/train-00001-of-00002-fedcba9876543210.parquet", [("Dan", 60)])
    _faces(root / "data/test-00000-of-00001-0123456789abcdef.parquet", [("Eve", 70)])
    sentence = packed.refused(capsys, tmp_path, "parquet", root)
    assert f"{root} holds 2 splits, as data/test, data/train: name the files" in sentence
    assert f"--source '{root}/data/test*.parquet', or of all with '{root}/**/*.parquet'" in sentence
    packed.prepare(tmp_path, "parquet", root / "data/train*.parquet")
    assert packed.content(tmp_path) == [*_ROWS, ("Dan", 60)]
    packed.prepare(tmp_path, "parquet", f"{root}/**/*.parquet", name="all")
    assert packed.content(tmp_path, "all") == [("Eve", 70), *_ROWS, ("Dan", 60)]


def test_names_of_several_sources_are_joined_and_numbers_are_not(tmp_path, capsys):
    one = _faces(tmp_path / "one.parquet")
    two = _faces(tmp_path / "two.parquet", [("Bob", 60), ("7", 70)])
    three = _write(tmp_path / "three.parquet", _structs([80, 90]), [7, 8])
    packed.prepare(tmp_path, "parquet", one, two, three)
    more = [("Bob", 60), ("two/7", 70), ("three/7", 80), ("three/8", 90)]
    assert packed.content(tmp_path) == [*_ROWS, *more]
    assert ", 1 name joined across sources, the numbers of two, three kept apart" in capsys.readouterr().out


def test_identities_and_images_are_selected(tmp_path, capsys):
    path = _faces(tmp_path / "x.parquet")
    (tmp_path / "out.txt").write_text("ann\nnobody\n")
    packed.prepare(tmp_path, "parquet", path, flags=["--exclude_identities", str(tmp_path / "out.txt")])
    assert packed.content(tmp_path) == [("Bob", 20), ("Cid", 40), ("Bob", 50)]
    assert ", 1 of 2 excluded names occur" in capsys.readouterr().out
    packed.prepare(tmp_path, "parquet", path, flags=["--min_images", "2", "--max_images", "1"], name="first")
    assert packed.content(tmp_path, "first") == [("Ann", 10), ("Bob", 20)]


def test_limits_count_over_files_and_leave_bad_images_out(tmp_path):
    one = _faces(tmp_path / "one.parquet", [("Ann", 1), ("Bob", None), ("Ann", 2)])
    two = _faces(tmp_path / "two.parquet", [("Ann", 3), ("Bob", 4), ("Bob", 5), ("Bob", 6)])
    flags = ["--max_images", "2", "--on_error", "skip"]
    packed.prepare(tmp_path, "parquet", one, two, flags=flags)
    assert packed.content(tmp_path) == [("Ann", 1), ("Ann", 2), ("Bob", 4), ("Bob", 5)]
    packed.prepare(tmp_path, "parquet", one, two, flags=["--min_images", "3", "--on_error", "skip"], name="three")
    assert packed.content(tmp_path, "three") == [
        *[("Ann", 1), ("Ann", 2), ("Ann", 3), ("Bob", 4), ("Bob", 5), ("Bob", 6)]
    ]  # fmt: skip


def test_a_second_run_changes_nothing_and_other_arguments_are_refused(tmp_path, capsys):
    path = _faces(tmp_path / "x.parquet")
    packed.prepare(tmp_path, "parquet", path)
    packed.prepare(tmp_path, "parquet", path)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        packed.prepare(tmp_path, "parquet", path, flags=["--max_images", "1"])
    assert "was prepared with max_images=None, not max_images=1" in capsys.readouterr().err


def _damaged(path, **options):
    whole = _faces(path).read_bytes()
    path.write_bytes(whole[: options["cut"]])
    return path


_BAD = {
    "paths only": (
        lambda path: _write(path, pa.array([{"bytes": None, "path": "imgs/1.jpg"}] * 2, _STRUCT), [0, 1]),
        "row 0, holds a path alone, imgs/1.jpg, and no image: give the files to `prepare folder`",
    ),
    "null": (lambda path: _write(path, [*_structs([1]), None], [0, 1]), "row 1, holds no image: it is null"),
    "no bytes": (lambda path: _write(path, [b"", face(1)], [0, 1]), "row 0, is an empty file"),
    "null label": (lambda path: _write(path, _structs([1, 2]), [0, None]), "row 1, has no label: it is null"),
    "missing label": (lambda path: _write(path, _structs([1, 2]), [0, -1], names=["a"]), "row 1, has no label: it is"),
    "beyond": (lambda path: _write(path, _structs([1]), [3], names=["a"]), "row 0, has the label 3, and the classes"),
    "negative": (lambda path: _write(path, _structs([1]), [-3]), "row 0, has a label that is neither a name nor"),
    "no name": (lambda path: _write(path, _structs([1]), ["a\nb"]), "row 0, has a label that is neither a name nor"),
    "kind of label": (
        lambda path: _write(path, _structs([1, 2]), [0.5, 1.5]),
        "has a column label of type double: labels are integers or names",
    ),
    "kind of image": (lambda path: _write(path, [1, 2], [0, 1]), "has a column image of type int64: images are bytes"),
    "paths": (lambda path: _write(path, ["1.jpg"], [0]), "has a column image of type string: images are bytes, or a"),
    "two of images": (
        lambda path: _write(path, [b"a"], [0], image="left", right=[b"b"]),
        "has no column image, and left, right may be one (images are bytes, or a struct of `bytes` and `path`): name "
        "it with --image_column",
    ),
    "two of labels": (
        lambda path: _write(path, [b"a"], [0], label="person", age=[5]),
        "has no column label, and person, age may be one (labels are integers or names): name it with --label_column",
    ),
    "no label": (
        lambda path: _write(path, [b"a"], [0.5], label="person"),
        "has no column label, and none of image, person may be one (labels are",
    ),
    "no rows": (lambda path: _write(path, pa.array([], _STRUCT), pa.array([], pa.int64())), "holds no images"),
    "cut": (lambda path: _damaged(path, cut=-20), "cannot be read as Parquet (Parquet magic bytes not found in footer"),
    "no picture": (lambda path: _write(path, [b"abc", face(1)], [0, 1]), "row 0, is not an image in a known format"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(_BAD))
def test_each_bad_input_is_one_sentence_and_writes_nothing(tmp_path, case, capsys):
    write, sentence = _BAD[case]
    path = write(tmp_path / "x.parquet")
    found = packed.refused(capsys, tmp_path, "parquet", path)
    assert f"{path}{', ' if sentence.startswith('row ') else ' '}{sentence}" in found


def test_columns_that_are_given_are_taken_or_told_to_be_missing(tmp_path, capsys):
    more = {"right": [face(gray) for _, gray in _ROWS], "person": [name for name, _ in _ROWS]}
    path = _write(tmp_path / "x.parquet", [face(0)] * 5, [0] * 5, **more)
    flags = ["--image_column", "right", "--label_column", "person"]
    packed.prepare(tmp_path, "parquet", path, flags=flags, name="right")
    assert packed.content(tmp_path, "right") == _ROWS
    (tmp_path / "sets").rename(tmp_path / "done")
    for flag in flags[::2]:
        sentence = packed.refused(capsys, tmp_path, "parquet", path, flags=[flag, "left"])
        assert f"x.parquet has no column left ({flag}): its columns are image, label, right, person" in sentence
    sentence = packed.refused(capsys, tmp_path, "parquet", path, flags=["--image_column", "label"])
    assert "has a column label of type int64: images are bytes" in sentence


def test_a_pattern_without_files_and_a_file_of_another_kind_are_told(tmp_path, capsys):
    assert "/y-* does not exist: give a Parquet file" in packed.refused(capsys, tmp_path, "parquet", tmp_path / "y-*")
    (tmp_path / "z").mkdir()
    assert "z holds no file *.parquet" in packed.refused(capsys, tmp_path, "parquet", tmp_path / "z")
    (tmp_path / "x.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    sentence = packed.refused(capsys, tmp_path, "parquet", tmp_path / "x.parquet")
    assert "x.parquet is a pointer of Git LFS, not the file itself: run `git lfs pull`" in sentence


def test_the_extra_is_named_without_pyarrow(tmp_path, capsys, monkeypatch):
    path = _faces(tmp_path / "x.parquet")
    monkeypatch.setattr(parquet_file, "pq", None)
    assert "need the package pyarrow: pip install -e '.[parquet]'" in packed.refused(capsys, tmp_path, "parquet", path)


def test_images_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    """Whatever the size of a row group: never the whole of it."""
    path = _faces(tmp_path / "x.parquet", [(name, gray) for name in ("Ann", "Bob") for gray in range(50)], group=100)
    opened = parquet_file.open_file(str(path), parquet_file.Columns(None, None))
    lengths = []
    column = parquet_file._column

    def noted(*arguments):
        for part in column(*arguments):
            lengths.append(len(part))
            yield part

    monkeypatch.setattr(parquet_file, "_column", noted)
    wanted = np.array([3, 70, 99])
    found = [int(records.decode_image(image)[0, 0, 0]) for image in opened.read(wanted)]
    assert found == [3, 20, 49]
    assert lengths == [64, 36]


def test_a_row_group_is_never_read_whole(tmp_path):
    """`datasets` makes a file of few images one row group, and other writers make one of millions."""
    rng, count = np.random.default_rng(0), 12_000
    path = _write(tmp_path / "x.parquet", [rng.bytes(2_000) for _ in range(count)], [0] * count, group=count)
    opened = parquet_file.open_file(str(path), parquet_file.Columns(None, None))
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in opened.read(np.arange(0, count, 64)))
    assert most < path.stat().st_size / 3


def test_what_datasets_writes_is_read(tmp_path, capsys):
    datasets = pytest.importorskip("datasets", reason="the package datasets is no extra")
    for name, gray in _ROWS:
        (tmp_path / "folders" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folders" / name / f"{gray}.jpg").write_bytes(face(gray))
    made = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "folders"), cache_dir=str(tmp_path / "cache"))
    (tmp_path / "faces/data").mkdir(parents=True)
    table = made["train"]
    embedded = table.with_format("arrow").map(datasets.table.embed_table_storage, batched=True)
    embedded.with_format(None).to_parquet(str(tmp_path / "faces/data/train-00000-of-00001.parquet"))
    packed.prepare(tmp_path, "parquet", tmp_path / "faces")
    assert sorted(packed.content(tmp_path)) == sorted(_ROWS)
    table.to_parquet(str(tmp_path / "paths.parquet"))  # without the images, as they lie in files
    with pytest.raises(SystemExit):
        packed.prepare(tmp_path, "parquet", tmp_path / "paths.parquet", name="paths")
    assert "row 0, holds a path alone, " in capsys.readouterr().err
