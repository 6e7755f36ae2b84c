"""What the devices could do at best, and what they hold."""

import time

import jax
import jax.numpy as jnp

# Dense bfloat16 operations per second of one device by `device_kind`, from the makers' data sheets (without sparsity).
PEAKS = {
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}
# Side of the square matrices whose product stands for the peak of a device that is not in the table.
MATRIX_SIDE, REPEATS = 2048, 5


def peak(dtype: str) -> tuple[float, str]:
    """Returns operations per second of one device, and where the number is from.

    Args:
      dtype: 'bfloat16' takes the table; for other types, and devices not in the table, a large matrix product is timed.
    """
    kind = jax.devices()[0].device_kind
    if dtype == "bfloat16" and kind in PEAKS:
        return PEAKS[kind], f"data sheet of {kind}"
    return _of_matrix_product(dtype), f"a {dtype} product of {MATRIX_SIDE}x{MATRIX_SIDE} matrices on {kind}"


def _of_matrix_product(dtype: str) -> float:
    device = jax.devices()[0]
    matrix = jax.device_put(jnp.ones((MATRIX_SIDE, MATRIX_SIDE), dtype), device)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    fastest = float("inf")
    for _ in range(REPEATS):
        since = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        fastest = min(fastest, time.perf_counter() - since)
    return 2 * MATRIX_SIDE**3 / fastest


def peak_memory() -> int | None:
    """Returns the most bytes that the first device has held so far; None where the backend does not count (a CPU)."""
    statistics = jax.local_devices()[0].memory_stats()
    return statistics and statistics.get("peak_bytes_in_use")
