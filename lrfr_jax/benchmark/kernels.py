"""Where the time of a call goes: its kernels by JAX's profiler, summed by kind."""

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping

import jax
from jax.profiler import ProfileData

CALLS = 2
# A kernel's kind is the first whose pattern its name has. Names are on a GPU those of NVIDIA's libraries and of XLA's
# kernels, on a CPU those of XLA's instructions.
KINDS = (
    ("convolutions, gradient of weights", r"wgrad"),
    ("convolutions, gradient of inputs", r"dgrad"),
    ("convolutions, and those gradients that are such", r"fprop|convol|conv_|conv2d"),
    ("convolutions and products by YNNPACK", r"ynn"),
    ("float32 products", r"f32f32_f32f32|sgemm"),
    ("matrix products", r"gemm|nvjet|dot"),
    ("sums over positions, with what is fused to them", r"^input_|reduce"),
    ("elementwise", r"fusion|^wrapped_"),
    ("copies and the rest", r""),
)
# What is to be said of a CPU's kernels; convolutions by Eigen are such.
ON_CPU = "without the work that they hand to other threads; on one core (taskset -c 0) there is none"
# Instructions that last as long as those inside them.
_AROUND_OTHERS = re.compile(r"^(while|call|conditional)\b")


def of_calls(run: Callable[[], object]) -> dict[str, float]:
    """Runs a warm function under the profiler; returns the seconds that a call spends in each kernel, by name.

    Kernels run side by side on several GPUs and on a CPU's threads, so that their sum may exceed the time of the call.
    What a CPU's kernel hands to other threads is not recorded: `ON_CPU`. Only GPUs and CPUs are known; without a kernel
    the result is empty.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                run()
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        spent = read(ProfileData.from_file(str(file)))
    return {name: seconds / CALLS for name, seconds in spent.items()}


def read(profile: ProfileData) -> dict[str, float]:
    """Returns the seconds in each kernel of a profile, the longest first: of GPUs, and without one of the CPU."""
    on_gpu, on_cpu = collections.Counter(), collections.Counter()
    lines = [(plane.name, line) for plane in profile.planes for line in plane.lines]
    for where, line in lines:
        if where.startswith("/device:GPU") and line.name.startswith("Stream"):
            on_gpu.update(_durations(line.events))
        if where == "/host:CPU":
            on_cpu.update(_durations(event for event in line.events if "hlo_op" in dict(event.stats)))
    spent = on_gpu or on_cpu
    return {name: seconds for name, seconds in spent.most_common() if not _AROUND_OTHERS.match(name)}


def _durations(events: Iterable) -> collections.Counter:
    spent = collections.Counter()
    for event in events:
        spent[event.name] += event.duration_ns / 1e9
    return spent


def kind_of(name: str) -> str:
    """Returns the kind of a kernel, of `KINDS`."""
    return next(kind for kind, pattern in KINDS if re.search(pattern, name))


def by_kind(kernels: Mapping[str, float]) -> dict[str, float]:
    """Sums the seconds of kernels by kind, the longest first."""
    spent = collections.Counter()
    for name, seconds in kernels.items():
        spent[kind_of(name)] += seconds
    return dict(spent.most_common())
