"""How much memory a training step takes on one device, by shapes alone: nothing is allocated, nothing compiled."""

import dataclasses
import functools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from lrfr_jax import image_ops, models
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.objective import embedding, view_rules
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import Head
from lrfr_jax.objective.named_features import LOGITS
from lrfr_jax.objective.teacher import TEACHER
from lrfr_jax.objective.terms.term import NamedTerm
from lrfr_jax.objective.total_loss import STUDENT
from lrfr_jax.objective.view_rules import View
from lrfr_jax.run import device_cache, objectives
from lrfr_jax.run import terms as named_terms
from lrfr_jax.sizing import kept_activations

# Bytes of a float32, which parameters, gradients, momentum and everything in the classifier are.
FLOAT = 4
# Arrays as large as the parameters: they, their gradient, and momentum or AdamW's two means.
COPIES = {"sgd": 3, "adamw": 4}
TO_START = 1  # more, of where parameters decay to
# What the program of `classifier.classification` and its gradient holds at a time: so many arrays as large as the
# cosines of a chunk (with chunks none are kept for the gradient), and so many as large as the centers that take part:
# those of a sample are gathered, and with chunks so is their gradient. The compiler of jax 0.10 lays cosines out once
# and, with chunks, twice more; from jax 0.12 on it keeps no copy of all chunks.
# {`Head.sum`: (arrays without chunks, with chunks)}.
COSINES = (
    {"softmax": (3, 2.5), "rival": (5, 3), "sigmoid": (3, 3.5), "nearest": (2, 2)}
    if jax.__version_info__ >= (0, 11)
    else {"softmax": (4, 4.5), "rival": (5, 4.5), "sigmoid": (4, 4.5), "nearest": (2, 2)}
)
CENTERS, CENTERS_IN_CHUNKS = 0, int(jax.__version_info__ < (0, 12))
CENTERS_OF_SAMPLE, CENTERS_OF_SAMPLE_IN_CHUNKS = 1, 2


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
      backbone: parameters, statistics, gradient and momentum of the network, and their running mean if it is kept;
        whole on every device.
      class_centers: with their gradient and momentum, this device's share.
      cosines: to the class centers, with what else the classification holds meanwhile.
      activations: that the forward pass leaves for the gradient, of all views.
      images: the batch as bytes, and its views in float32.
      teacher: weights of a network that the run learns from, whole on every device; its features hold little beside.
      cache: the training sets, if `input.cache` is 'device', with the teacher's features that are kept of each record;
        whole on every device.
    """

    backbone: float | int
    class_centers: float | int
    cosines: float | int
    activations: float | int
    images: float | int
    teacher: int
    cache: int

    @property
    def total(self) -> float | int:
        """Sum of all parts."""
        return sum(dataclasses.astuple(self))


def of_config(config: ConfigDict, *, num_identities: int, num_images: int, devices: int) -> Memory:
    """Estimates the memory of one of `devices` devices.

    The activations are those of `kept_activations`, which tells how near that comes to what a compiler reserves.

    Args:
      config: one that `experiment.build_run` accepts.
      num_identities: of the training set.
      num_images: of it, and of a second set beside it.
      devices: over which batch and, by `classifier.shards`, class centers are split.
    """
    rules, terms, embedded = _views(config)
    classified = sum(bool(rule.weight) for rule in rules.values())
    head, copies = objectives.head_of(config.head.to_dict()), COPIES[config.optimizer.algorithm]
    copies += TO_START * (config.optimizer.decay_towards == "start")
    averages = int(config.optimizer.weight_average > 0)
    sizes = {"first": config.batch_size / devices, "second": config.input.second.batch_size / devices}
    parameters, statistics, kept = _of_network(config.model.to_json(), config.remat)
    rows, cosines, dim = 0, 0, config.model.embedding_size
    if head is not None:
        classifier = Classifier(num_identities, **config.classifier)
        rows, images = classifier.rows / classifier.shards, classified * sizes["first"] * classifier.shards
        cosines = head_bytes(classifier, head, batch=config.batch_size, images=images, dim=dim)
    teacher, of_record = _of_teacher(config, terms)
    pixels = math.prod((image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3))
    return Memory(
        backbone=(copies + averages) * parameters + (1 + averages) * statistics,
        class_centers=copies * FLOAT * rows * dim,
        cosines=cosines,
        activations=sum(sizes[rules[view].source] for view in embedded) / config.batch_parts * kept,
        images=pixels * (sum(sizes.values()) + FLOAT * sum(sizes[rule.source] for rule in rules.values())),
        teacher=teacher,
        cache=device_cache.bytes_of(num_images) + num_images * of_record if config.input.cache == "device" else 0,
    )


def _views(config: ConfigDict) -> tuple[dict[str, View], tuple[NamedTerm, ...], set[str]]:
    """(all views, the terms, the views that the student embeds)."""
    rules = view_rules.views_of(config.augment.views.to_dict())
    terms = named_terms.terms_of(config.terms.to_dict(), {name: rule.source for name, rule in rules.items()})
    classified = {name for name, rule in rules.items() if rule.weight}
    return rules, terms, classified | {view for term in terms for who, view, _ in term.of if who == STUDENT}


def _of_teacher(config: ConfigDict, terms: tuple[NamedTerm, ...]) -> tuple[int, int]:
    """Bytes of its weights, and of what is kept of it for each record; one of them is 0."""
    path = config.teacher.checkpoint
    if not path:
        return 0, 0
    metadata = checkpoint.load_metadata(path)
    if config.teacher.cache != "none":
        model = {name: value for name, value in metadata["model"].items() if name != "batch_norm"}
        return 0, 2 * FLOAT * models.feature_size(models.create_backbone(**model))  # of both orientations
    weights = sum(_of_network(json.dumps(metadata["model"] | {"batch_norm": "frozen"}), "none")[:2])
    if any((who, tap) == (TEACHER, LOGITS) for term in terms for who, _, tap in term.of):
        weights += FLOAT * metadata["data"]["num_identities"] * metadata["model"]["embedding_size"]
    return weights, 0


def head_bytes(classifier: Classifier, head: Head, *, batch: int, images: float | int, dim: int) -> float:
    r"""Bytes that the classification and its gradient hold on one device beside centers and features.

    .. math:: 4\,(a\,n\,r / c + k\,r\,d), \quad r = \text{rows of a shard that take part}

    n images of all views meet the centers of one shard, r of them in c chunks; a is that of `COSINES`; k is 1 for a
    sample, or 2 with chunks, and else 0, or 1 with chunks before jax 0.12.

    Args:
      classifier: layout of the centers.
      head: whose sum decides how many arrays of cosines there are.
      batch: images of a step on all devices; a sample holds the centers of all their labels.
      images: n: images of all views, times shards, over devices.
      dim: d, length of a feature.
    """
    rows = classifier.rows_taking_part(batch)
    in_chunks = classifier.chunks > 1
    cosines = COSINES[head.sum][in_chunks]
    if classifier.sampled_share < 1:
        copies = CENTERS_OF_SAMPLE_IN_CHUNKS if in_chunks else CENTERS_OF_SAMPLE
    else:
        copies = CENTERS_IN_CHUNKS if in_chunks else CENTERS
    return FLOAT * (cosines * images * rows / classifier.chunks + copies * rows * dim)


@functools.cache
def _of_network(model: str, remat: str) -> tuple[int, int, int]:
    """Bytes of parameters, of statistics, and of what the forward pass of an image keeps for the gradient."""
    settings = json.loads(model)
    batch_norm = settings.pop("batch_norm")
    backbone = models.create_backbone(**settings, remat=remat)

    def shape(batch: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3), jnp.float32)

    def embed(params, stats, images):
        settings = {"backbone": backbone, "batch_norm": batch_norm, "parts": 1, "taps": {"hr": ("feature",)}}
        return embedding.embed_views(params, stats, {"hr": images}, jax.random.key(0), **settings)

    rng = jax.eval_shape(jax.random.key, 0)
    variables = jax.eval_shape(functools.partial(backbone.init, train=False), rng, shape(1))
    params, stats = variables["params"], variables.get("batch_stats", {})
    kept = [kept_activations.count(embed, params, stats, shape(batch)) for batch in (1, 2)]
    return _bytes(params), _bytes(stats), kept[1] - kept[0]


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
