"""Discipline for every test: eight CPU devices, no silent rank promotion, shapes in signatures checked."""

import functools
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# In the environment rather than by jax.config, so that the commands which tests start have the same.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
# Most of the suite's time goes into compiling, of which LLVM at level 0 takes two thirds.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
    ]
)

from jaxtyping import install_import_hook

install_import_hook("lrfr_jax", "beartype.beartype")

import jax
import numpy as np
import pytest

from tests.object_stores import bucket  # noqa: F401  # a fixture for every test

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def quiet():
    """No signs of life, which a slow machine would see and a fast one would not; `test_progress` has its own."""
    from lrfr_jax.terminal import progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "QUIET_SECONDS", 36000.0)
        yield


@pytest.fixture
def golden():
    """Opens an array file of tests/golden by its name."""
    return lambda name: np.load(ROOT / "tests" / "golden" / f"{name}.npz", allow_pickle=False)


@pytest.fixture
def reference():
    """Opens a reference file that may not be published (real faces); skips where it is absent."""

    def open_reference(name: str):
        path = ROOT.parent / "shared" / "golden" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"reference faces {path.name} are not public and not on this machine")
        return np.load(path, allow_pickle=False)

    return open_reference


def _resnet(name, stage_sizes):
    from lrfr_jax import models
    from lrfr_jax.models.resnet import BasicBlock, ResNet

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.BACKBONES, name, functools.partial(ResNet, block=BasicBlock, stage_sizes=stage_sizes))
        yield name


@pytest.fixture(scope="module")
def resnet10():
    """The name, for one file of tests, of a backbone with one block per stage, as weights files have stages."""
    yield from _resnet("resnet10", (1, 1, 1, 1))


@pytest.fixture(scope="module")
def resnet6():
    """The same with two stages, one of them strided: what is around a network compiles sooner."""
    yield from _resnet("resnet6", (1, 1))


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory):
    """A checkpoint folder of a network that compiles at once and tells made-up faces apart, for one file of tests."""
    from lrfr_jax import models
    from lrfr_jax.checkpoints import checkpoint
    from tests.evals.made_up_sets import TinyBackbone, variables

    convention = {"order": "rgb", "mean": 0.0, "scale": 1.0, "columns": 112}
    model = {"backbone": "tiny", "width": 1.0, "embedding_size": 16, "dropout": 0.0, "dtype": "float32"}
    metadata = {"step": 7, "model": model | {"input": convention}, "degradation_rounding": "uint8"}
    folder = tmp_path_factory.mktemp("tiny") / "net"
    checkpoint.save_backbone(folder, variables(), metadata)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.BACKBONES, "tiny", lambda input, **settings: TinyBackbone(input))
        yield folder


@pytest.fixture(scope="session")
def generated_data(tmp_path_factory):
    """A data_dir with `generated_train` (6 identities, 48 images) and `generated_test` (20 pairs), as users make it."""
    from lrfr_jax.prepare import __main__ as prepare

    folder = str(tmp_path_factory.mktemp("data"))
    shared = ["--data_dir", folder, "--seed", "0"]
    training = ["--identities", "6", "--images_per_identity", "8", "--first_identity", "0", "--shards", "2"]
    test = [
        "--identities",
        "20",
        "--images_per_identity",
        "3",
        "--first_identity",
        "100",
        "--shards",
        "1",
        "--pairs",
        "20",
    ]
    prepare.main(["generated", "--name", "generated_train", *shared, *training])
    prepare.main(["generated", "--name", "generated_test", *shared, *test])
    return folder
