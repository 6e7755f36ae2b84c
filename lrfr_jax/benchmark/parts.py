"""The parts of the work on the devices: step, forward pass, degradation, head."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrfr_jax import image_ops
from lrfr_jax.benchmark.setting import Part, Setting
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective import views
from lrfr_jax.sizing import communication, operations


def _compiled(function: Callable, setting: Setting, *arguments: Any) -> tuple[Callable, dict[str, Any]]:
    """Compiles a jitted function; returns it and the fields of `Part` that the compiler knows."""
    with jax.set_mesh(setting.mesh):
        since = time.perf_counter()
        program = function.lower(*arguments).compile()
        known = {"compile_seconds": time.perf_counter() - since}
    analysis = program.cost_analysis() or {}
    if "flops" in analysis:
        # The compiler counts those of one device.
        known["compiled_operations"] = analysis["flops"] * setting.mesh.size
    memory = program.memory_analysis()
    if memory is not None:
        known["temporary_bytes"] = memory.temp_size_in_bytes
    return program, known


def train_step(setting: Setting) -> Part:
    """One step as in training: views, both forwards, loss, gradient, update, on images that the device has."""
    state = setting.fresh_state()
    placement = sharding.of_state(setting.mesh, state)
    step = jax.jit(setting.run.step, donate_argnums=0, out_shardings=(placement, sharding.replicated(setting.mesh)))
    program, known = _compiled(step, setting, state, setting.batch, setting.of_teacher)
    backbone = jax.eval_shape(lambda: state.params["backbone"])  # the step takes the arrays themselves away
    held = [state]

    def run() -> None:
        held[0], metrics = program(held[0], setting.batch, setting.of_teacher)
        jax.block_until_ready((held[0], metrics))

    run_of, size = setting.run, setting.config.model.embedding_size
    sizes = {"batch": setting.config.batch_size, "second_batch": setting.config.input.second.batch_size}
    count = operations.of_training(run_of, embedding_size=size, **sizes)
    sent = {f"by {kind}": sent for kind, sent in communication.of_program(program.as_text()).items()}
    if sent:
        rows, axes = run_of.classifier.rows if run_of.classifier else 0, setting.mesh.shape
        images = setting.views * setting.config.batch_size
        least = communication.least_of_step(backbone, rows=rows, dim=size, images=images, **axes)
        sent |= {f"at least, {what}": least_sent for what, least_sent in least.items()}
    facts = {f"bytes that a device sends in a step {how}": number for how, number in sent.items()}
    return Part(run, setting.config.batch_size, operations=count, facts=lambda: facts, **known)


def forward(setting: Setting) -> Part:
    """The network in evaluation, on images that the device has."""
    state = setting.fresh_state()
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}

    @jax.jit
    def embed(variables, images):
        return setting.run.backbone.apply(variables, image_ops.normalize(images), train=False)

    program, known = _compiled(embed, setting, variables, setting.images)
    run = functools.partial(_finish, program, variables, setting.images)
    count = setting.config.batch_size * operations.of_forward(setting.run.backbone)
    return Part(run, setting.config.batch_size, operations=count, **known)


def degradation(setting: Setting) -> Part:
    """The views of a batch: flips, resolutions drawn, bicubic down and up, normalized."""
    settings = setting.config.augment.to_dict()

    @jax.jit
    def make_views(rng, images, second):
        return views.make_views(rng, images, step=0, second=second, **settings)

    second = setting.batch["second"]["image"] if "second" in setting.batch else None
    arguments = jax.random.key(0), setting.images, second
    program, known = _compiled(make_views, setting, *arguments)
    return Part(functools.partial(_finish, program, *arguments), setting.config.batch_size, **known)


def head(setting: Setting) -> Part:
    """Classification loss of a batch of features and its gradients for features, class centers and bias.

    Raises:
      UserError: a config without a classification.
    """
    if setting.run.head is None:
        raise UserError("the part 'head' needs a classification, and head.name='none' has none: leave it out")
    classifier, head, size = setting.run.classifier, setting.run.head, setting.config.model.embedding_size
    state = {name: jnp.asarray(value, jnp.float32) for name, value in head.first_state.items()}

    @jax.jit
    def gradient(features, centers, labels, rng):
        def value(features, params):
            how = {"classifier": classifier, "head": head}
            return jnp.mean(classifiers.classification(features, params, labels, rng, state, **how)[0])

        params = {"class_centers": centers, **classifiers.init_bias(head, classifier)}
        return jax.grad(value, argnums=(0, 1))(features, params)

    rng = jax.random.key(0)
    views = len(setting.run.objective.view_weights)
    features = jax.random.normal(rng, (views, setting.config.batch_size, size))
    init = functools.partial(classifiers.init_class_centers, classifier=classifier, dim=size)
    placement = sharding.of_state(setting.mesh, {sharding.CLASS_CENTERS: jnp.zeros((1, 1))})[sharding.CLASS_CENTERS]
    centers = jax.jit(init, out_shardings=placement)(rng)
    arguments = jax.device_put(features, sharding.replicated(setting.mesh)), centers, setting.labels, rng
    program, known = _compiled(gradient, setting, *arguments)
    counted = {"batch": setting.config.batch_size, "views": views}
    count = operations.of_head(classifier, head, embedding_size=size, **counted)
    return Part(functools.partial(_finish, program, *arguments), setting.config.batch_size, operations=count, **known)


def _finish(program: Callable, *arguments: Any) -> None:
    jax.block_until_ready(program(*arguments))
