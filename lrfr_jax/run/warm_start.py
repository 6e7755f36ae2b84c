"""Where a fresh run begins: with the weights of another checkpoint, and class centers that fit them."""

import logging
import os
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import sharding
from lrfr_jax.objective.train_step import TrainState
from lrfr_jax.run import workdir

logger = logging.getLogger("lrfr_jax")

CLASS_CENTERS = ("random", "mean_embedding", "checkpoint")
# What may differ between the model of a checkpoint and the model that starts from it: neither has weights.
FREE = ("dropout", "dtype")
# Records that are embedded at a time: bounds the memory that features take.
CHUNK = 8192


def check(init_from: str, class_centers: str, *, model: dict[str, Any], begins: bool) -> None:
    """Raises `UserError` unless the settings of a config fit together and, where a run begins, to the checkpoint named.

    Args:
      init_from: as in the config: W/checkpoints/<step>, what `lrfr_jax.pretrained` wrote, or ''.
      class_centers: one of `CLASS_CENTERS`.
      model: the config's arguments of `models.create_backbone`.
      begins: whether the weights will be read; when a run continues they need not be there any more.
    """
    if class_centers not in CLASS_CENTERS:
        raise UserError(f"config.class_centers={class_centers!r} is unknown: choose one of {', '.join(CLASS_CENTERS)}")
    if class_centers != "random" and not init_from:
        raise UserError(f"config.class_centers={class_centers!r} needs a trained backbone: set config.init_from")
    if not begins or not init_from:
        return
    if paths.of(init_from).is_file():
        raise UserError(
            f"config.init_from={init_from} is a file: `python -m lrfr_jax.pretrained --source {init_from} --out DIR` "
            "makes the checkpoint of it that config.init_from takes"
        )
    there, model = (
        {**of, "input": {"size": IMAGE_SIZE} | dict(of["input"])}  # not said before there was a choice
        for of in (checkpoint.load_metadata(init_from)["model"], model)
    )
    found, wanted = ({key: value for key, value in of.items() if key not in FREE} for of in (there, model))
    changes = workdir.differences("model", found, wanted)
    if changes:
        raise UserError(f"config.init_from={init_from} holds another model ({'; '.join(changes)}): change config.model")


def with_backbone_of(state: TrainState, path: str | os.PathLike, *, mesh: Mesh) -> TrainState:
    """Puts the backbone of a checkpoint into a fresh state.

    Args:
      state: as `train_step.init_state` made it.
      path: W/checkpoints/<step>, or what `lrfr_jax.pretrained` wrote, of the same model: see `check`.
      mesh: over which the state is replicated.

    Raises:
      UserError: no checkpoint, or one that cannot be read.
    """
    variables, _ = checkpoint.load_backbone(path)
    variables = jax.device_put(variables, sharding.replicated(mesh))
    params = state.params | {"backbone": variables["params"]}
    return state.replace(params=params, batch_stats=variables.get("batch_stats", {}))


def with_mean_embeddings(
    state: TrainState, backbone: nn.Module, training_set: face_sets.TrainingSet, *, rows: int, mesh: Mesh, **how: int
) -> TrainState:
    """Puts the `mean_embeddings` of a state's own backbone into its classifier.

    Args:
      state: as `with_backbone_of` made it.
      backbone: its module.
      training_set: whose identities the classes are.
      rows: of the class centers; those beyond the identities are zeros.
      mesh: over which the state lies.
      how: `batch_size` and `num_threads` of `mean_embeddings`.
    """
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    found = mean_embeddings(backbone, variables, training_set, mesh=mesh, **how)
    logger.info("the class centers start from the mean embeddings of %d identities", len(found))
    # On the host, since the whole may be more than one device holds.
    centers = {sharding.CLASS_CENTERS: np.pad(found, ((0, rows - len(found)), (0, 0)))}
    centers = jax.device_put(centers, sharding.of_state(mesh, centers))
    return state.replace(params=state.params | {"classifier": state.params["classifier"] | centers})


def with_classifier_of(state: TrainState, path: str | os.PathLike, *, num_identities: int, mesh: Mesh) -> TrainState:
    """Puts the class centers of a checkpoint, and the bias that goes with them, into a fresh state.

    Args:
      state: as `train_step.init_state` made it, perhaps for more rows.
      path: W/checkpoints/<step> of a run on the same identities.
      num_identities: of the training set.
      mesh: over which the state lies.

    Raises:
      UserError: the checkpoint holds no classifier, or another one.
    """
    found = checkpoint.load_training(path, "classifier")
    if found is None:
        raise UserError(f"config.class_centers='checkpoint': {path} holds no classifier, name a checkpoint of a run")
    there = checkpoint.load_metadata(path)["data"]["num_identities"]
    wanted = state.params["classifier"]
    shapes = ({name: leaf.shape[1:] for name, leaf in of.items()} for of in (found, wanted))
    if there != num_identities or len({str(of) for of in shapes}) > 1:
        raise UserError(
            f"config.class_centers='checkpoint': the classifier of {path} is of {there} identities with "
            f"{', '.join(found)}, and this run's of {num_identities} with {', '.join(wanted)}: both must be the same"
        )

    def fitting(leaf: jax.Array, other: jax.Array) -> np.ndarray:
        rows = np.asarray(leaf)[:num_identities] if leaf.ndim else np.asarray(leaf)
        return np.pad(rows, [(0, more - len_) for more, len_ in zip(other.shape, rows.shape, strict=True)])

    classifier = {name: fitting(found[name], other) for name, other in wanted.items()}
    classifier = jax.device_put(classifier, sharding.of_state(mesh, classifier))
    return state.replace(params=state.params | {"classifier": classifier})


def mean_embeddings(
    backbone: nn.Module,
    variables: Any,
    training_set: face_sets.TrainingSet,
    *,
    mesh: Mesh,
    batch_size: int,
    num_threads: int,
) -> Float[np.ndarray, "identities dim"]:
    r"""The direction of each identity's mean embedding, at full resolution.

    .. math:: w_y \propto \textstyle\sum_{i: y_i = y} \hat f_i

    Raises:
      UserError: an image that cannot be decoded, or features that are not finite.
    """
    embedder = embed.make_embedder(
        backbone, sizes=(IMAGE_SIZE,), rounding="uint8", sharding=sharding.over_batch(mesh), mirror=False
    )
    sums: np.ndarray | None = None
    for first in range(0, training_set.num_images, CHUNK):
        records = np.arange(first, min(first + CHUNK, training_set.num_images))
        features = embed.embed_records(
            embedder,
            variables,
            training_set.source,
            wanted={IMAGE_SIZE: records},
            batch_size=batch_size,
            num_threads=num_threads,
            what=f"class means, images {first + 1} to {first + len(records)} of {training_set.num_images}",
        )[IMAGE_SIZE][records]
        if sums is None:
            sums = np.zeros((training_set.num_identities, features.shape[-1]))
        unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
        labels = [training_set.source[record]["label"] for record in records.tolist()]
        np.add.at(sums, labels, unit[:, 0])
    return (sums / np.linalg.norm(sums, axis=-1, keepdims=True)).astype(np.float32)
