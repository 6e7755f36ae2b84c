"""A network that compiles at once, in the place of every backbone, and teachers of it that have no weights."""

import json
import pathlib

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from lrfr_jax.models import layers, taps

# Channels of what stands for the stages' maps.
CHANNELS = {"stage1": 64, "stage2": 128, "stage3": 256, "stage4": 512}


class OneLayer(nn.Module):
    """Stands for every backbone: the neck alone, on averages of 16 x 16 pixels, with the taps that configs name."""

    width: float
    embedding_size: int
    dropout: float
    dtype: str
    input: layers.InputConvention
    remat: str

    @nn.compact
    def __call__(self, images, train):
        x = nn.avg_pool(images, (16, 16), strides=(16, 16)).astype(self.dtype)
        for name, channels in CHANNELS.items():
            taps.show(self, name, jnp.broadcast_to(x[..., :1], (*x.shape[:3], channels)))
        taps.show(self, "attention", x[..., 0])
        taps.show(self, "attention", x[..., 1])
        return layers.Neck(self.embedding_size, self.dropout, learn_scale=True, name="neck")(x, train)


# Configs with a teacher: the argument with which they make it. Of the others it is a network like their own.
MAKE_THEIR_TEACHER = {"systems.askd": "stage=teacher", "systems.fskd": "stage=teacher", "systems.bridge_kd": "step=1"}


def write_metadata(folder: pathlib.Path, config: ConfigDict, *, num_identities: int) -> str:
    """Makes a checkpoint that says how a config builds and trains its model, without weights; returns its path."""
    plain = json.loads(config.to_json())
    evals = plain.pop("evals")
    metadata = {
        "step": 1,
        "model": {name: value for name, value in plain["model"].items() if name != "batch_norm"},
        "evals": evals,
        "degradation_rounding": "uint8",
        "data": {"num_identities": num_identities},
        "history": [{"recipe": flatten_dict(plain, sep=".")}],
    }
    for name in ("backbone", "metadata"):
        (folder / name).mkdir(parents=True)
    (folder / "metadata" / "metadata").write_text(json.dumps(metadata))
    return str(folder)
