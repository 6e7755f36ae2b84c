"""Kernels of a call: read from profiles of a GPU and of this CPU, summed by kind."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.profiler import ProfileData

from lrfr_jax.benchmark import kernels

# A GPU's profile, with a host's event that has an instruction's name too, as launches have.
GPU_PROFILE = """
planes { name: "/device:GPU:0"
  event_metadata { key: 1 value { id: 1 name: "loop_add_fusion_4" } }
  event_metadata { key: 2 value { id: 2 name: "sm90_xmma_wgrad_implicit_gemm_bf16" } }
  lines { name: "Stream #14(Compute,Memset)"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 2000000000 }
    events { metadata_id: 2 offset_ps: 3000000000 duration_ps: 5000000000 }
    events { metadata_id: 1 offset_ps: 9000000000 duration_ps: 1000000000 } }
  lines { name: "XLA Modules" events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000000 } } }
planes { name: "/host:CPU"
  event_metadata { key: 1 value { id: 1 name: "launch" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
  lines { name: "python" events { metadata_id: 1 offset_ps: 0 duration_ps: 7000000000
    stats { metadata_id: 1 str_value: "add.1" } } } }
"""


def test_kernels_of_a_gpu_are_those_of_its_streams():
    profile = ProfileData.from_serialized_xspace(ProfileData.text_proto_to_serialized_xspace(GPU_PROFILE))
    spent = kernels.read(profile)
    assert spent == pytest.approx({"sm90_xmma_wgrad_implicit_gemm_bf16": 5e-3, "loop_add_fusion_4": 3e-3})
    assert list(spent) == ["sm90_xmma_wgrad_implicit_gemm_bf16", "loop_add_fusion_4"]


def test_kernels_of_this_cpu():
    @jax.jit
    def rounds(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ x), x)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(300, 300)), jnp.float32)
    run = lambda: rounds(x).block_until_ready()  # noqa: E731
    run()
    spent = kernels.of_calls(run)
    kinds = kernels.by_kind(spent)
    assert 0 < kinds["convolutions and products by YNNPACK"] < 1
    assert kinds["elementwise"] > 0
    assert not any(name.startswith("while") for name in spent)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in spent)  # instructions, none of the host's functions
    assert sum(kinds.values()) == pytest.approx(sum(spent.values()))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc", "convolutions, and"),
        ("sm90_xmma_dgrad_implicit_gemm_indexed_bf16bf16", "convolutions, gradient of inputs"),
        ("sm90_xmma_depthwise_convolution_wgrad_tiling_f32f32_f32f32_f32", "convolutions, gradient of weights"),
        ("conv2d_c1_k1_nhwc", "convolutions, and"),
        ("conv_general_dilated.99", "convolutions, and"),
        ("convolution-base-dilated.3", "convolutions, and"),
        ("convert_bitcast_fusion", "elementwise"),
        ("ynn_fusion.3", "convolutions and products"),
        ("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize64x256x8", "float32 products"),
        ("void cutlass::Kernel2<cutlass_80_simt_sgemm_256x128_8x4_nt_align1>", "float32 products"),
        ("nvjet_sm90_tst_128x256_64x4_2x1_v_bx_coopA_bias_TNN", "matrix products"),
        ("gemm_fusion_dot_78", "matrix products"),
        ("input_reduce_select_fusion_11", "sums"),
        ("input_convert_transpose_fusion", "sums"),
        ("loop_convert_fusion", "elementwise"),
        ("select_multiply_fusion.12", "elementwise"),
        ("wrapped_add", "elementwise"),
        ("MemcpyD2D", "copies"),
    ],
)
def test_kind_of_a_kernel(name, kind):
    assert kernels.kind_of(name).startswith(kind)
