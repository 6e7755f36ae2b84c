"""What was measured, as plain data and as a table."""

import dataclasses
import json
import pathlib
from typing import Any

from lrfr_jax.benchmark import kernels
from lrfr_jax.benchmark.setting import Part
from lrfr_jax.benchmark.timing import Timing
from lrfr_jax.errors import UserError
from lrfr_jax.files import paths

LONGEST, KERNEL_NAME = 8, 60  # kernels named in the table, and the length their names are cut to
COLUMNS = ("part", "images/s", "spread", "ms", "CPU ms", "compile s", "GFLOP by hand / compiled", "MFU", "temporary GB")


def row(name: str, part: Part, timing: Timing, *, peak: float) -> dict[str, Any]:
    """One part's figures; `peak` is what all devices could compute in a second."""
    figures = {
        "part": name,
        "images_per_second": part.images / timing.median,
        "spread": timing.spread,
        "seconds": timing.median,
        "cpu_seconds": timing.median_cpu,
        "turns": list(timing.seconds),
        "images": part.images,
    }
    figures |= {
        field.name: getattr(part, field.name)
        for field in dataclasses.fields(part)
        if field.name not in ("run", "images", "facts")
    }
    figures["mfu"] = part.operations / timing.median / peak if part.operations else None
    return figures | {"facts": part.facts()}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown: what was measured on what, a row per part, what else there is to say."""
    setting = report["setting"]
    lines = [", ".join(f"{key} {value}" for key, value in setting.items()), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|---|{'--:|' * (len(COLUMNS) - 1)}"]
    lines += [f"| {' | '.join(_cells(figures))} |" for figures in report["parts"]]
    notes = [
        f"- {figures['part']}: {key} {value:.3g}"
        for figures in report["parts"]
        for key, value in figures["facts"].items()
    ]
    notes += [f"- {key}: {value}" for key, value in report["notes"].items()]
    spent = [line for name, found in report["kernels"].items() for line in ("", *_kernel_table(name, found))]
    return "\n".join([*lines, "", *notes, *spent]) + "\n"


def _kernel_table(part: str, found: dict[str, float]) -> list[str]:
    """Where a part's time goes, by kind of kernel, and its longest kernels."""
    if not found:
        return [f"{part}: JAX's profiler saw no kernel of a GPU or CPU."]
    whole = sum(found.values())
    kinds = kernels.by_kind(found).items()
    longest = [f"{name[:KERNEL_NAME]} {seconds * 1e3:.2f} ms" for name, seconds in list(found.items())[:LONGEST]]
    return [
        f"| {part}: {len(found)} kernels | ms | share |",
        "|---|--:|--:|",
        *(f"| {kind} | {seconds * 1e3:.2f} | {seconds / whole:.0%} |" for kind, seconds in kinds),
        "",
        f"Longest: {'; '.join(longest)}.",
    ]


def _cells(figures: dict[str, Any]) -> list[str]:
    def or_empty(value: float | None, form: str, factor: float = 1.0) -> str:
        return "" if value is None else format(value * factor, form)

    counts = (figures["operations"], figures["compiled_operations"])
    return [
        figures["part"],
        f"{figures['images_per_second']:.1f}",
        f"{figures['spread']:.0%}",
        f"{figures['seconds'] * 1e3:.1f}",
        f"{figures['cpu_seconds'] * 1e3:.0f}",
        or_empty(figures["compile_seconds"], ".1f"),
        " / ".join(or_empty(count, ".1f", 1e-9) or "-" for count in counts) if any(counts) else "",
        or_empty(figures["mfu"], ".0%"),
        or_empty(figures["temporary_bytes"], ".2f", 1e-9),
    ]


def write(path: pathlib.Path, report: dict[str, Any]) -> None:
    """Writes PATH as json and the table beside it as .md; a file of that name is replaced as a whole.

    Raises:
      UserError: they cannot be written.
    """
    try:
        paths.write_text(path, json.dumps(report, indent=2) + "\n")
        paths.write_text(path.with_suffix(".md"), table(report))
    except OSError as error:
        raise UserError(f"--output {path} cannot be written: {error}") from error
