"""Convolutions of the networks here against XLA's own, on this CPU.

python benchmarks/convolutions.py --batch_size 32

Depthwise ones, as MobileFaceNet has them, are sums of shifted images; the others, as a ResNet has them, are
Winograd's products where they are wide, and with a stride their kernels' gradients are matrix products. Both forms
are measured in turns, so that a change of the machine's load meets both; the medians and their ratios are printed.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lrfr_jax.models import convolution, depthwise

# Side of the map, channels, kernel and stride; a stride doubles the channels of those that are not depthwise.
DEPTHWISE = (
    (56, 64, 3, 1),
    (56, 128, 3, 2),
    (28, 128, 3, 1),
    (28, 256, 3, 2),
    (14, 256, 3, 1),
    (14, 512, 3, 2),
    (7, 256, 3, 1),
)
DENSE = (
    (56, 64, 3, 1),
    (28, 128, 3, 1),
    (14, 256, 3, 1),
    (7, 512, 3, 1),
    (56, 64, 3, 2),
    (56, 64, 1, 1),
    (56, 64, 1, 2),
)


def main() -> None:
    """Prints milliseconds of both forms, forward and backward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def compare(kind: str, forms: tuple[Callable, Callable], side: int, kernel: jax.Array, stride: int, inputs: int):
        arrays = normal(options.batch_size, side, side, inputs), kernel
        cells = [_forward(forms, arrays, stride, options.repeats), _backward(forms, arrays, stride, options.repeats)]
        shape = f"{len(kernel)}x{len(kernel)} of {side}x{side}x{inputs}, stride {stride}"
        print(f"{kind}{shape}: {', '.join(cells)}", flush=True)

    for side, channels, size, stride in DEPTHWISE:
        forms = depthwise.depthwise_conv, depthwise._grouped_conv
        compare("depthwise ", forms, side, normal(size, size, 1, channels), stride, channels)
    for side, channels, size, stride in DENSE:
        forms = convolution.conv, convolution._convolve
        compare("", forms, side, normal(size, size, channels, channels * stride), stride, channels)


def _forward(forms: tuple[Callable, Callable], arrays: tuple[jax.Array, ...], stride: int, repeats: int) -> str:
    return "forward " + _compared([functools.partial(form, stride=stride) for form in forms], arrays, repeats)


def _backward(forms: tuple[Callable, Callable], arrays: tuple[jax.Array, ...], stride: int, repeats: int) -> str:
    def pull_back(form, x, kernel, gradient):
        return jax.vjp(functools.partial(form, stride=stride), x, kernel)[1](gradient)

    arrays = *arrays, forms[0](*arrays, stride=stride)
    return "backward " + _compared([functools.partial(pull_back, form) for form in forms], arrays, repeats)


def _compared(functions: list[Callable], arguments: tuple[jax.Array, ...], repeats: int) -> str:
    """Runs the functions in turns after a first time for compiling; says the median of each."""
    functions = [jax.jit(function) for function in functions]
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(repeats + 1):
        for taken, function in zip(times, functions, strict=True):
            since = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            taken += [1000 * (time.perf_counter() - since)] if turn else []
    ours, theirs = (statistics.median(taken) for taken in times)
    return f"{ours:.1f} and {theirs:.1f} ms ({theirs / ours:.1f} x)"


if __name__ == "__main__":
    main()
