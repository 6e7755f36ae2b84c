"""A table of experiments as data: what a file of `configs/sweeps` says, and where the runs of its rows lie."""

import dataclasses
import os
import pathlib
import re
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from lrfr_jax.errors import UserError

# A row's name is the name of a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of a table.

    Attributes:
      name: name of its folder.
      arg: argument of the config file, such as 'policy=maug'; '' for none.
      overrides: {dotted field of the config: value}.
      paper: {metric: the published number in percent}.
    """

    name: str
    arg: str
    overrides: Mapping[str, Any]
    paper: Mapping[str, float | int]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep file, read; `configs/sweeps/__init__.py` says what stands in one.

    Attributes:
      title: first line of the file's docstring.
      base: the config file that every row changes.
      tables: {title of a table: {title of a column: metric, or metrics joined by '+' for their mean}}.
      rows: the rows by their names, in order.
    """

    title: str
    base: str
    tables: Mapping[str, Mapping[str, str]]
    rows: Mapping[str, Row]


def read(path: str | os.PathLike) -> Sweep:
    """Runs a sweep file and checks what it says; an error of the Python in it keeps its traceback.

    Raises:
      UserError: the file cannot be read or lacks a part, or a row is not as it should be.
    """
    try:
        found = runpy.run_path(os.fspath(path))
    except OSError as error:
        raise UserError(f"the sweep file {path} cannot be read: {error}") from error
    missing = [name for name in ("BASE", "TABLES", "rows") if name not in found]
    if missing:
        raise UserError(f"{path} is no sweep file, as it defines no {missing[0]}: see configs/sweeps/__init__.py")
    title = (found.get("__doc__") or pathlib.Path(path).stem).strip().splitlines()[0]
    metrics = {metric for columns in found["TABLES"].values() for metric in columns.values()}
    rows: dict[str, Row] = {}
    for plain in found["rows"]():
        row = _row(plain, path=path, metrics=metrics)
        if row.name in rows:
            raise UserError(f"{path} has two rows named {row.name}: give each a name of its own")
        rows[row.name] = row
    if not rows:
        raise UserError(f"{path} yields no row: let rows() give one dict per run")
    return Sweep(title, found["BASE"], found["TABLES"], rows)


def arguments(
    sweep: Sweep, row: Row, *, seed: int, changes: Sequence[str], root: str | os.PathLike, data_dir: str
) -> list[str]:
    """Returns the arguments of `python -m lrfr_jax.main` for one run.

    Args:
      sweep, row: what to run.
      seed: the run's `config.seed`.
      changes: 'field=value' for all rows; they win over the row's own.
      root: folder of all runs.
      data_dir: folder of the prepared sets.
    """
    config = f"{sweep.base}:{row.arg}" if row.arg else sweep.base
    overrides = [f"{field}={value}" for field, value in row.overrides.items()]
    return [
        *("--config", config, "--workdir", str(folder(root, row.name, seed)), "--data_dir", data_dir),
        *(f"--config.{change}" for change in [*overrides, *changes, f"seed={seed}"]),
    ]


def folder(root: str | os.PathLike, name: str, seed: int) -> pathlib.Path:
    """The workdir of a row's run with a seed."""
    return pathlib.Path(root) / name / f"seed{seed}"


def seeds(root: str | os.PathLike, name: str) -> list[int]:
    """The seeds of a row that have a folder, ascending."""
    found = (re.fullmatch(r"seed(\d+)", path.name) for path in pathlib.Path(root, name).glob("seed*") if path.is_dir())
    return sorted(int(match[1]) for match in found if match)


def log_of(workdir: str | os.PathLike) -> pathlib.Path:
    """Where `launch/sweep.py` keeps what a run prints: beside its workdir."""
    workdir = pathlib.Path(workdir)
    return workdir.with_name(f"{workdir.name}.log")


def _row(plain: Any, *, path: str | os.PathLike, metrics: set[str]) -> Row:
    fields = {field.name for field in dataclasses.fields(Row)}
    if not isinstance(plain, Mapping) or plain.keys() != fields:
        raise UserError(f"{path} yields {plain!r}: a row is a dict of exactly {', '.join(sorted(fields))}")
    row = Row(**plain)
    if not _NAME.fullmatch(row.name):
        raise UserError(f"{path} names a row {row.name!r}: use letters, digits and _ . + - only, as it names a folder")
    strangers = row.paper.keys() - metrics
    if strangers:
        raise UserError(f"row {row.name} of {path} has a published number for {min(strangers)}, no column of TABLES")
    return row
