"""Depthwise convolutions as MobileFaceNet has them: shifted sums against XLA's grouped convolution, on this CPU.

python benchmarks/depthwise.py --batch_size 32

Both are measured in turns, so that a change of the machine's load meets both; the medians and their ratios are printed.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lrfr_jax.models import depthwise

# Side of the map, channels and stride of the network's depthwise convolutions.
SHAPES = ((56, 64, 1), (56, 128, 2), (28, 128, 1), (28, 256, 2), (14, 256, 1), (14, 512, 2), (7, 256, 1))


def main() -> None:
    """Prints milliseconds of both forms, forward and backward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for side, channels, stride in SHAPES:
        x = jnp.asarray(rng.normal(size=(options.batch_size, side, side, channels)), jnp.float32)
        kernel = jnp.asarray(rng.normal(size=(3, 3, 1, channels)), jnp.float32)
        forms = {
            "shifted": functools.partial(depthwise.depthwise_conv, stride=stride),
            "grouped": functools.partial(depthwise._grouped_conv, stride=stride),
        }
        gradient = forms["shifted"](x, kernel)
        forward = {name: jax.jit(form) for name, form in forms.items()}
        backward = {name: jax.jit(functools.partial(_pull_back, form)) for name, form in forms.items()}
        ahead = medians(forward, (x, kernel), repeats=options.repeats)
        back = medians(backward, (x, kernel, gradient), repeats=options.repeats)
        cells = [
            f"{title} {ours:.1f} and {theirs:.1f} ms ({theirs / ours:.0f} x)"
            for title, (ours, theirs) in (("forward", ahead.values()), ("backward", back.values()))
        ]
        print(f"{side}x{side}x{channels}, stride {stride}: {', '.join(cells)}", flush=True)


def medians(functions: dict[str, Callable], arguments: tuple, *, repeats: int) -> dict[str, float]:
    """Runs the functions in turns after a first time for compiling; returns the median of each in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            since = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            times[name] += [1000 * (time.perf_counter() - since)] if turn else []
    return {name: statistics.median(taken) for name, taken in times.items()}


def _pull_back(form: Callable, x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(form, x, kernel)[1](gradient)


if __name__ == "__main__":
    main()
