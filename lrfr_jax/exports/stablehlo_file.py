"""StableHLO: a network as jax's own portable program, weights included, for CPU, CUDA and TPU.

`jax.export.deserialize(bytes).call(images)` runs it without any code of this project. The input and the output are
those of `onnx_file`: float32 [batch, 3, 112, 112], RGB, (pixel - 127.5) / 127.5, and the raw feature.

References: https://docs.jax.dev/en/latest/export/export.html, https://openxla.org/stablehlo/compatibility
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
from jax.extend.mlir.dialects import stablehlo

from lrfr_jax.image_ops import IMAGE_SIZE

PLATFORMS = ("cpu", "cuda", "tpu")
# The version of StableHLO that programs are written in. jax writes one of four weeks ago, which a jax that is older
# cannot read (0.12.0.1 writes 1.18, 0.10.2 reads up to 1.17); our networks need nothing new.
WRITTEN_VERSION = "1.13.0"


def serialize(backbone: nn.Module, variables: Any) -> bytes:
    """Returns the program of a backbone, with a batch of any size."""

    def features(images):
        return backbone.apply(variables, images.transpose(0, 2, 3, 1), train=False)

    shape = jax.export.symbolic_shape(f"batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}")
    program = jax.export.export(jax.jit(features), platforms=PLATFORMS)(jax.ShapeDtypeStruct(shape, jnp.float32))
    module = stablehlo.deserialize_portable_artifact_str(program.mlir_module_serialized)
    older = stablehlo.serialize_portable_artifact_str(module, WRITTEN_VERSION)
    return bytes(dataclasses.replace(program, mlir_module_serialized=older).serialize())
