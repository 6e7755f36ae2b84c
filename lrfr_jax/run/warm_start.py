"""Where a fresh run begins: with the weights of another checkpoint, and class centers that fit them."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.errors import UserError
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import sharding
from lrfr_jax.objective.train_step import TrainState
from lrfr_jax.run import workdir

CLASS_CENTERS = ("random", "mean_embedding", "checkpoint", "teacher")
OF_BACKBONE = ("mean_embedding", "checkpoint")  # which come from `init_from`
# What may differ between the model of a checkpoint and the model that starts from it: neither has weights.
FREE = ("dropout", "dtype")


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
    if class_centers in OF_BACKBONE and not init_from:
        raise UserError(f"config.class_centers={class_centers!r} needs a trained backbone: set config.init_from")
    if not begins or not init_from:
        return
    if paths.of(init_from).is_file():
        raise UserError(
            f"config.init_from={init_from} is a file: `python -m lrfr_jax.pretrained --source {init_from} --out DIR` "
            "makes the checkpoint of it that config.init_from takes"
        )
    changes = differences(checkpoint.load_metadata(init_from)["model"], model)
    if changes:
        raise UserError(f"config.init_from={init_from} holds another model ({'; '.join(changes)}): change config.model")


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Returns a phrase for each argument of two models for which the weights of one do not fit the other."""
    # Models of before there was a choice do not say their size.
    said = ({**of, "input": {"size": IMAGE_SIZE} | dict(of["input"])} for of in (there, here))
    found, wanted = ({key: value for key, value in of.items() if key not in FREE} for of in said)
    return workdir.differences("model", found, wanted)


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
    variables = sharding.everywhere(variables, mesh)
    params = state.params | {"backbone": variables["params"]}
    return state.replace(params=params, batch_stats=variables.get("batch_stats", {}))


def with_class_centers(
    state: TrainState, centers: Float[np.ndarray, "identities dim"], *, rows: int, mesh: Mesh
) -> TrainState:
    """Puts class centers into the classifier of a state.

    Args:
      state: as `train_step.init_state` made it.
      centers: of the training set's identities.
      rows: of the classifier; those beyond the identities are zeros.
      mesh: over which the state lies.
    """
    # On the host, since the whole may be more than one device holds.
    padded = {sharding.CLASS_CENTERS: np.pad(centers, ((0, rows - len(centers)), (0, 0)))}
    padded = jax.device_put(padded, sharding.of_state(mesh, padded))
    return state.replace(params=state.params | {"classifier": state.params["classifier"] | padded})


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
