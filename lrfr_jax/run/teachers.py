"""The teacher of a run: a checkpoint, what is read of it, and its embeddings of a whole set, kept beside the set."""

import dataclasses
import hashlib
import logging
import pathlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import unflatten_dict
from jax.sharding import Mesh
from jaxtyping import Float, PyTree

from lrfr_jax import models
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets
from lrfr_jax.errors import NPZ_ERRORS, UserError, reason_of
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import processes, sharding
from lrfr_jax.models import layers, taps
from lrfr_jax.objective import train_step
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.named_features import LOGITS, Names
from lrfr_jax.objective.teacher import TEACHER, Teacher
from lrfr_jax.objective.total_loss import Objective
from lrfr_jax.objective.view_rules import View
from lrfr_jax.run import former_names, objectives, set_features

logger = logging.getLogger("lrfr_jax")

CACHES = ("none", "records")
# What changes an image before a view is dressed, beside the borders: each with a probability.
AUGMENTATIONS = ("crop", "low_resolution", "light", "gray")


def build(
    settings: Mapping[str, Any],
    objective: Objective,
    rules: Mapping[str, View],
    augment: Mapping[str, Any],
    *,
    num_identities: int,
) -> Teacher | None:
    """The teacher that a config's group `teacher` names, without its weights.

    Args:
      settings: the group: checkpoint, cache and compatible_from.
      objective: whose terms say what is read of it.
      rules, augment: how images are dressed; for the cache.
      num_identities: of the training set, which logits must be of.

    Raises:
      UserError: groups that do not fit each other, or a checkpoint that does not hold what the terms name.
    """
    path, read = settings["checkpoint"], objective.read_of(TEACHER)
    if settings["cache"] not in CACHES:
        raise UserError(f"teacher.cache={settings['cache']!r} is unknown: choose one of {', '.join(CACHES)}")
    if not path:
        if read:
            raise UserError("a term reads the teacher, and teacher.checkpoint is '': name a checkpoint")
        if settings["cache"] != "none" or settings["compatible_from"]:
            raise UserError("teacher.cache and teacher.compatible_from are of a teacher: set teacher.checkpoint")
        return None
    if not read:
        raise UserError(f"teacher.checkpoint={path} is read by no term: name teacher.VIEW.TAP in one, or set it to ''")
    if not 0 <= settings["compatible_from"] <= IMAGE_SIZE:
        raise UserError(f"teacher.compatible_from={settings['compatible_from']} must be pixels in 0..{IMAGE_SIZE}")
    metadata = checkpoint.load_metadata(path)
    backbone = models.create_backbone(**metadata["model"])
    wanted = {tap for names in read.values() for tap in names}
    names = _names(path, metadata, backbone, wanted, num_identities)
    try:
        objectives.check_taps(wanted, names, taps.names_of(backbone), TEACHER)
    except UserError as error:
        raise UserError(f"teacher.checkpoint={path}: {error}") from error
    if not names.reads_parts(wanted):
        names = dataclasses.replace(names, parts={})
    teacher = Teacher(backbone, names, read, is_kept=settings["cache"] == "records")
    if teacher.is_kept:
        _check_kept(teacher, rules, augment)
    return teacher


def _names(path: str, metadata: Mapping[str, Any], backbone: Any, wanted: set[str], num_identities: int) -> Names:
    """The parts, and where logits are wanted the classifier, of the run that made a checkpoint."""
    entry = next(iter(metadata.get("history", [])[-1:]), {})
    recipe = unflatten_dict(former_names.current(entry.get("recipe", {})), sep=".")
    parts = objectives.parts_of(recipe.get("parts") or {}, backbone)
    if LOGITS not in wanted:
        return Names(parts, None, None, recipe.get("classified", taps.FEATURE))
    head = objectives.head_of(recipe["head"]) if "head" in recipe else None
    if head is None:
        raise UserError(f"a term reads the logits of teacher.checkpoint={path}, which was saved without a classifier")
    found = metadata["data"]["num_identities"]
    if found != num_identities:
        raise UserError(
            f"a term reads the logits of teacher.checkpoint={path}, which are of {found} identities, and the training "
            f"set has {num_identities}: train the teacher on that set"
        )
    precision = layers.PRODUCT_PRECISIONS[metadata["model"]["dtype"]]
    classifier = Classifier(found, shards=1, chunks=1, sampled_share=1.0, precision=precision)
    return Names(parts, classifier, head, recipe.get("classified", taps.FEATURE))


def _check_kept(teacher: Teacher, rules: Mapping[str, View], augment: Mapping[str, Any]) -> None:
    views = list(teacher.read)
    if len(views) != 1 or not teacher.is_feature_of(views[0]):
        read = ", ".join(f"teacher.{view}.{tap}" for view, found in teacher.read.items() for tap in found)
        raise UserError(
            f"teacher.cache='records' keeps the feature of one view, and terms read {read}: set it to 'none'"
        )
    rule = rules[views[0]]
    changed = [name for name in AUGMENTATIONS if augment[name]["probability"]]
    changed += ["border_probability"] if augment["border_probability"] else []
    if rule.sizes or rule.source != "first" or changed:
        why = f"augment.{changed[0]} changes it" if changed else f"augment.views.{views[0]} does not show it as it is"
        raise UserError(
            f"teacher.cache='records' keeps the features of each record's image, and {why}: set it to 'none'"
        )


def abstract_variables(teacher: Teacher) -> dict[str, PyTree]:
    """The shapes of what `load` returns."""

    def init() -> dict[str, PyTree]:
        state = train_step.init_state(
            jax.random.key(0),
            image_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
            backbone=teacher.backbone,
            names=teacher.names,
            terms=(),
            num_identities=1,
            optimizer=optax.identity(),
        )
        above = {name: value for name, value in state.params.items() if name != "backbone"}
        return {"backbone": {"params": state.params["backbone"], "batch_stats": state.batch_stats}} | above

    return jax.eval_shape(init)


def load(path: str, teacher: Teacher, mesh: Mesh) -> dict[str, PyTree]:
    """Reads the weights of a teacher, whole on every device.

    Raises:
      UserError: they cannot be read.
    """
    variables, _ = checkpoint.load_backbone(path)
    found = {"backbone": variables} | _above(path, teacher)
    return sharding.everywhere(found, mesh)


def _above(path: str, teacher: Teacher) -> dict[str, PyTree]:
    """What is read of a teacher beside its network: parts, classifier."""
    found = {}
    for name in ("parts", "classifier"):
        if not getattr(teacher.names, name):
            continue
        found[name] = checkpoint.load_training(path, name)
        if found[name] is None:
            raise UserError(f"teacher.checkpoint={path} holds no {name}, which terms read: name a checkpoint of a run")
    return found


def digests_of(path: str, teacher: Teacher) -> tuple[str, str]:
    """(The digest of a teacher's network, of all that is read of the teacher, by which a run knows it again).

    They are the same where parts and classifier are not read. Two steps of a run may have one network: the first of
    Bridge KD's two trains its parts alone.

    Raises:
      UserError: the weights cannot be read.
    """
    variables, metadata = checkpoint.load_backbone(path)
    above = _above(path, teacher)
    return tuple(checkpoint.model_digest(found, metadata["model"]) for found in (variables, {**variables, **above}))


def kept_features(
    path: str,
    teacher: Teacher,
    training_set: face_sets.TrainingSet,
    *,
    digest: str,
    mesh: Mesh,
    batch_size: int,
    num_threads: int,
) -> Float[np.ndarray, "records 2 dim"]:
    """The teacher's features of each record's image and mirrored image, made once and kept beside the set.

    The file, teacher-<digest>.npy in the set's folder, is named by the teacher's weights and the set's content; it is
    read from the disk as it is needed.

    Args:
      path: of the teacher's checkpoint.
      digest: of the teacher's weights.
      mesh, batch_size, num_threads: how images are embedded.

    Raises:
      UserError: the set has no digest, the file cannot be written or read, or an image not be decoded.
    """
    if not training_set.digest:
        raise UserError(
            f"teacher.cache='records' knows a set by its digest, and {training_set.path} was prepared before sets had "
            "one: prepare it again, or set teacher.cache to 'none'"
        )
    of_both = hashlib.sha256(f"{digest} {training_set.digest} {training_set.num_images}".encode()).hexdigest()
    file = training_set.path / f"teacher-{of_both[:16]}.npy"
    # Made by all processes together: where they share no disk, one may have it already and others not.
    if not all(processes.texts_of_all("there" if file.exists() else "")):
        where = f"teacher.cache='records': {training_set.num_images} images and their mirrored ones, once"
        logger.info("%s, into %s", where, file)
        variables = load(path, teacher, mesh)["backbone"]
        how = {"what": "the teacher's embeddings", "mirror": True, "batch_size": batch_size, "num_threads": num_threads}
        features = set_features.of_images(teacher.backbone, variables, training_set, mesh=mesh, **how)
        _write(file, training_set.num_images, features)
    try:
        return np.load(file, mmap_mode="r")
    except NPZ_ERRORS as error:
        raise UserError(f"{file} cannot be read ({reason_of(error)}): remove it, and it is made again") from error


def class_means(
    path: str, teacher: Teacher, training_set: face_sets.TrainingSet, *, digest: str, mesh: Mesh, **how: int
) -> Float[np.ndarray, "identities dim"]:
    """The direction of each identity's mean embedding by the teacher, from its kept features if they are.

    Args:
      path, digest: see `kept_features`.
      mesh: of the run.
      how: `batch_size` and `num_threads` of `kept_features`.
    """
    if teacher.is_kept:
        kept = kept_features(path, teacher, training_set, digest=digest, mesh=mesh, **how)
        features = (kept[first : first + set_features.CHUNK] for first in range(0, len(kept), set_features.CHUNK))
    else:
        variables, mirror = (
            load(path, teacher, mesh)["backbone"],
            {"what": "the teacher's class means", "mirror": False},
        )
        features = set_features.of_images(teacher.backbone, variables, training_set, mesh=mesh, **mirror, **how)
    return set_features.class_means(features, training_set, num_threads=how["num_threads"])


def _write(file: pathlib.Path, total: int, chunks: Iterator[Float[np.ndarray, "records 2 dim"]]) -> None:
    """Writes an array chunk by chunk, whole or not at all; several processes that share a disk write the same."""
    partial = file.with_name(f"{file.name}.{secrets.token_hex(8)}.partial")
    try:
        done, whole = 0, None
        for chunk in chunks:
            if whole is None:
                shape = (total, *chunk.shape[1:])
                whole = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
            whole[done : done + len(chunk)] = chunk
            done += len(chunk)
        whole.flush()
        partial.replace(file)
    except OSError as error:
        reason = reason_of(error)
        raise UserError(f"{file} cannot be written ({reason}): make room, or set teacher.cache to 'none'") from error
    finally:
        partial.unlink(missing_ok=True)


def with_kept(
    batches: Iterator[dict[str, Any]], numbers: Iterator[dict[str, Any]], kept: Float[np.ndarray, "records 2 dim"]
) -> Iterator[dict[str, Any]]:
    """Gives each batch the teacher's features of its records, under 'teacher'.

    Args:
      batches: with images.
      numbers: the same batches by the numbers of their records.
      kept: from `kept_features`.
    """
    for batch, which in zip(batches, numbers, strict=False):
        yield batch | {"teacher": np.asarray(kept[which["record"]])}
