"""Two runs and a bare backbone of a tiny network, the figure that a drawing function made, and the command."""

import shutil

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lrfr_jax import models
from lrfr_jax.analysis.figures import __main__ as figures
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.evals import plots
from tests.evals.made_up_sets import TinyBackbone, variables

CENTERS = np.random.default_rng(3).normal(size=(6, 16)).astype(np.float32)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """`one` and `two` were trained on generated_train, `two` from other weights; `bare` holds no classifier."""
    root = tmp_path_factory.mktemp("runs")
    for name, factor in (("one", 1.0), ("two", -0.5), ("bare", 1.0)):
        manager = checkpoint.create_manager(root / name, keep=2)
        weights = dict(variables())
        kernel = weights["params"]["Dense_0"]["kernel"]
        turned = jnp.where(jnp.arange(kernel.shape[1]) % 3 == 0, factor * kernel, kernel)
        weights["params"] = {**weights["params"], "Dense_0": {**weights["params"]["Dense_0"], "kernel": turned}}
        metadata = {
            "model": {"backbone": "tiny", "input": {}},
            "data": {"dataset": "generated_train", "num_identities": 6},
        }
        for step in (5, 10):
            checkpoint.save(
                manager,
                step,
                backbone=weights,
                training={"classifier": {"class_centers": CENTERS}, "opt_state": {"trace": np.zeros(2)}},
                metadata=metadata | {"step": step, "degradation_rounding": "uint8"},
            )
        manager.close()
    shutil.rmtree(root / "bare" / checkpoint.FOLDER / "10" / "training")
    return root


@pytest.fixture
def runs(folders, monkeypatch):
    """The folders, with a model table that knows the tiny network."""
    monkeypatch.setattr(models, "create_backbone", lambda backbone, **others: {"tiny": TinyBackbone()}[backbone])
    return folders


@pytest.fixture
def drawn(monkeypatch):
    """Keeps the figures that were drawn and closed."""
    kept, close = [], plt.close
    monkeypatch.setattr(plots.plt, "close", lambda figure: (kept.append(figure), close(figure)))
    return kept


@pytest.fixture
def command(runs, generated_data, tmp_path, drawn):
    """Runs a kind over the named checkpoints; returns its arrays and its figure."""

    def call(kind, *options, checkpoints="one,two"):
        listed = ",".join(str(runs / name) for name in checkpoints.split(","))
        shared = ["--checkpoints", listed, "--data_dir", generated_data, "--batch_size", "16"]
        figures.main([kind, *shared, *options, "--output", str(tmp_path / kind)])
        assert sorted(path.name for path in (tmp_path / kind).iterdir()) == [f"{kind}.npz", f"{kind}.png"]
        assert (tmp_path / kind / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
        assert plt.get_fignums() == []
        return dict(np.load(tmp_path / kind / f"{kind}.npz", allow_pickle=False)), drawn.pop()

    return call
