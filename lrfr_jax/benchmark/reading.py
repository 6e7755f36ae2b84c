"""The parts of the work that begin with records: decoding batches, training on them, embedding a test set."""

import atexit
import functools
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np

from lrfr_jax import image_ops, sharding
from lrfr_jax.benchmark.setting import Part, Setting
from lrfr_jax.data import builders, face_sets, pipeline, records, synthetic
from lrfr_jax.evals import embed

# Generated faces of the set that is read where none is given: so many different ones, each so often.
FACES, COPIES = 64, 32
JPEG_QUALITY = 95
# Batches of a call, so that the time to fill the pipeline does not count for much.
BATCHES = 8


def _training_set(setting: Setting) -> face_sets.TrainingSet:
    if setting.data_dir:
        return face_sets.open_training_set(setting.data_dir, setting.config.input.dataset)
    return _generated_set()


@functools.cache
def _generated_set() -> face_sets.TrainingSet:
    folder = tempfile.mkdtemp(prefix="lrfr_jax_benchmark_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    faces = [
        records.encode_image(synthetic.render_face(face, 0, seed=0), quality=JPEG_QUALITY) for face in range(FACES)
    ]
    builders.write_training_set(
        folder,
        "faces",
        images=((faces[number % FACES], number % FACES) for number in range(FACES * COPIES)),
        num_images=FACES * COPIES,
        identities=[f"face {number}" for number in range(FACES)],
        num_shards=1,
        arguments={},
        notes={},
    )
    return face_sets.open_training_set(folder, "faces")


def _batches(setting: Setting, training_set: face_sets.TrainingSet) -> Iterator[dict[str, np.ndarray]]:
    reading = {key: value for key, value in setting.config.input.items() if key != "dataset"}
    return pipeline.training_batches(
        training_set,
        batch_size=setting.config.batch_size,
        seed=setting.config.seed,
        start_batch=0,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        **reading,
    )


def decoding(setting: Setting) -> Part:
    """Batches from records by the threads that the config names; the device does nothing."""
    training_set = _training_set(setting)
    batches = _batches(setting, training_set)
    encoded = [training_set.source[number]["image"] for number in range(min(len(training_set.source), FACES))]

    def run() -> None:
        for _ in itertools.islice(batches, BATCHES):
            pass

    def facts() -> dict[str, float]:
        cpu_since = time.process_time()
        run()
        per_core = BATCHES * setting.config.batch_size / (time.process_time() - cpu_since)
        raw = _decode_rate(encoded)
        return {"images per second of one core": per_core, "share of bare decoding": per_core / raw}

    return Part(run, BATCHES * setting.config.batch_size, facts=facts)


def _decode_rate(encoded: list[bytes]) -> float:
    """Images that one core decodes in a second with nothing else to do; the median of some rounds."""
    rates = []
    for _ in range(9):
        since = time.process_time()
        for image in encoded:
            records.decode_image(image)
        rates.append(len(encoded) / (time.process_time() - since))
    return float(np.median(rates))


def training(setting: Setting) -> Part:
    """The loop of training from records on: decoded, sent, one step after the other."""
    held, waited, spent = [setting.fresh_state()], [], []
    placement = sharding.of_state(setting.mesh, held[0])
    outputs = (placement, sharding.replicated(setting.mesh))
    step = jax.jit(setting.run.step, donate_argnums=0, out_shardings=outputs)
    training_set = _training_set(setting)
    batches = _batches(setting, training_set)

    def run() -> None:
        since = time.perf_counter()
        with jax.set_mesh(setting.mesh):
            for _ in range(BATCHES):
                asked = time.perf_counter()
                batch = sharding.to_devices(next(batches), setting.mesh)
                waited.append(time.perf_counter() - asked)
                # Labels of the set on the disk, identities of the benchmark: within range of both.
                labels = batch["label"] % setting.run.classifier.num_identities
                held[0], metrics = step(held[0], batch["image"], labels)
            jax.block_until_ready((held[0], metrics))
        spent.append(time.perf_counter() - since)

    def facts() -> dict[str, float]:
        # Without the call that compiled the program.
        return {"share of the time spent waiting for input": sum(waited[BATCHES:]) / sum(spent[1:])}

    return Part(run, BATCHES * setting.config.batch_size, facts=facts)


def evaluation(setting: Setting) -> Part:
    """A test set from records to features of the faces at full resolution, each in both orientations."""
    state = setting.fresh_state()
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    variables = jax.device_put(variables, sharding.replicated(setting.mesh))
    size = setting.config.eval_batch_size
    sharding.check_batch_size("--config.eval_batch_size", size, setting.mesh)
    source = _training_set(setting).source
    count = min(len(source), BATCHES * size)
    embedder = embed.make_embedder(
        setting.run.backbone,
        sizes=(image_ops.IMAGE_SIZE,),
        rounding=setting.config.augment.rounding,
        sharding=sharding.over_batch(setting.mesh),
    )
    run = functools.partial(
        embed.embed_records,
        embedder,
        variables,
        source,
        wanted={image_ops.IMAGE_SIZE: np.arange(count)},
        batch_size=size,
        num_threads=setting.config.input.num_threads,
    )
    return Part(run, count)
