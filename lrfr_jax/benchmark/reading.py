"""The parts of the work that begin with records: batches in three ways, training on them, embedding a test set."""

import atexit
import functools
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from lrfr_jax import image_ops
from lrfr_jax.benchmark import timing
from lrfr_jax.benchmark.setting import Part, Setting
from lrfr_jax.data import builders, face_sets, records, synthetic
from lrfr_jax.evals import embed
from lrfr_jax.machines import sharding
from lrfr_jax.run import device_cache, sources

# Generated faces of the set that is read where none is given: so many different ones, each so often.
FACES, COPIES = 64, 32
IMAGES_PER_IDENTITY = 4  # as many identities as a batch of them may hold
JPEG_QUALITY = 95
# Batches of a call, so that its beginning and end do not count for much. Of reading alone at least so many images, and
# so many times what may wait.
BATCHES, IMAGES_READ, TIMES_WAITING = 8, 512, 4
ROUNDS = 5  # of what a core does in a second; the median counts


def _training_sets(setting: Setting) -> list[face_sets.TrainingSet]:
    """The one or two sets of the config."""
    sources.check_second(setting.config)
    names = filter(None, (setting.config.input.dataset, setting.config.input.second.dataset))
    if setting.data_dir:
        return [face_sets.open_training_set(setting.data_dir, name) for name in names]
    return [_generated_set() for _ in names]


@functools.cache
def _generated_set() -> face_sets.TrainingSet:
    faces = [
        records.encode_image(synthetic.render_face(face, 0, seed=0), quality=JPEG_QUALITY) for face in range(FACES)
    ]
    return _written((faces[number % FACES], number // IMAGES_PER_IDENTITY) for number in range(FACES * COPIES))


def _raw(training_set: face_sets.TrainingSet) -> face_sets.TrainingSet:
    """The first images of a set with their pixels as they are, as `prepare raw` writes them."""
    numbers = range(min(training_set.num_images, FACES * COPIES))
    stored = (training_set.source[number] for number in numbers)
    return _written((records.encode_raw(records.decode_image(one["image"])), one["label"]) for one in stored)


def _written(images: Iterable[tuple[bytes, int]]) -> face_sets.TrainingSet:
    """Writes a set that is gone when the program ends."""
    images, folder = list(images), tempfile.mkdtemp(prefix="lrfr_jax_benchmark_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    builders.write_training_set(
        folder,
        "faces",
        images=images,
        num_images=len(images),
        identities=[f"face {number}" for number in range(1 + max(label for _, label in images))],
        num_shards=1,
        arguments={},
        notes={},
    )
    return face_sets.open_training_set(folder, "faces")


def _feed(setting: Setting, sets: list[face_sets.TrainingSet], *, cache: str) -> tuple[Iterator, dict]:
    reading = {name: setting.config.input[name] for name in ("num_threads", "prefetch_images")}
    taken = sources.bind(setting.config, sets)
    return device_cache.feed(taken, cache=cache, mesh=setting.mesh, start_batch=0, **reading)


def _images_of_a_batch(setting: Setting) -> int:
    return setting.config.batch_size + setting.config.input.second.batch_size


def decoding(setting: Setting) -> Part:
    """Batches from records by the threads that the config names; the device does nothing."""
    return _reading(setting, _training_sets(setting), decodes=True)


def raw_decoding(setting: Setting) -> Part:
    """The same from raw records."""
    return _reading(setting, [_raw(one) for one in _training_sets(setting)], decodes=False)


def _reading(setting: Setting, sets: list[face_sets.TrainingSet], *, decodes: bool) -> Part:
    batches, _ = _feed(setting, sets, cache="none")
    waiting, size = setting.config.input.prefetch_images * len(sets), _images_of_a_batch(setting)
    images = max(BATCHES * size, IMAGES_READ, TIMES_WAITING * waiting) // size * size
    taken = (images + waiting) // size  # those that waited when the call began took it no time

    def run() -> None:
        for _ in itertools.islice(batches, taken):
            pass

    def facts() -> dict[str, float]:
        decode, count = _bare_decoding(sets[0])
        seconds = [
            (_processor_seconds(run) / (taken * size), _processor_seconds(decode) / count) for _ in range(ROUNDS)
        ]
        known = {"images per second of one core": 1 / statistics.median(reading for reading, _ in seconds)}
        if decodes:
            known["share of bare decoding"] = statistics.median(decoding / reading for reading, decoding in seconds)
        return known

    return Part(run, images, facts=facts)


def _bare_decoding(training_set: face_sets.TrainingSet) -> tuple[Callable[[], None], int]:
    """Decodes the first images of a set and does nothing else; how many these are."""
    encoded = [training_set.source[number]["image"] for number in range(min(training_set.num_images, IMAGES_READ))]

    def decode() -> None:
        for image in encoded:
            records.decode_image(image)

    return decode, len(encoded)


def _processor_seconds(run: Callable[[], object]) -> float:
    """From rest to rest: as many images wait after it as before, whoever read them."""
    timing.await_rest()
    since = time.process_time()
    run()
    timing.await_rest()
    return time.process_time() - since


def cached(setting: Setting) -> Part:
    """Batches from a cache on the devices: numbers drawn, sent, and looked up."""
    numbers, held = _feed(setting, _training_sets(setting), cache="device")
    look_up = jax.jit(functools.partial(device_cache.found_in, mesh=setting.mesh))

    def run() -> None:
        for batch in itertools.islice(numbers, BATCHES):
            jax.block_until_ready(look_up(held, sharding.to_devices(batch, setting.mesh)))

    images = BATCHES * _images_of_a_batch(setting)

    def facts() -> dict[str, float]:
        seconds = statistics.median(_processor_seconds(run) for _ in range(ROUNDS))
        return {"images per second of one core": images / seconds}

    return Part(run, images, facts=facts)


def training(setting: Setting) -> Part:
    """The loop of training from records or the cache on, as the config says: one step after the other.

    It begins with as many images waiting as may wait, so that of readers too slow for the device `input` tells first.
    """
    held, waited, spent = [setting.fresh_state()], [], []
    placement = sharding.of_state(setting.mesh, held[0])
    outputs = (placement, sharding.replicated(setting.mesh))
    step = jax.jit(device_cache.on_batch(setting.run.step, setting.mesh), donate_argnums=0, out_shardings=outputs)
    batches, known = _feed(setting, _training_sets(setting), cache=setting.config.input.cache)

    def in_range(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
        # Labels of the set on the disk, identities of the benchmark: within range of both.
        found = dict(arrays)
        if "label" in arrays and setting.run.classifier is not None:
            found["label"] = arrays["label"] % setting.run.classifier.num_identities
        return found

    if setting.run.teacher is not None and setting.run.teacher.is_kept:
        batches, known = _with_kept(setting, batches, known)
    known = in_range(known) if known else known

    def run() -> None:
        since = time.perf_counter()
        with jax.set_mesh(setting.mesh):
            for _ in range(BATCHES):
                asked = time.perf_counter()
                batch = sharding.to_devices(next(batches), setting.mesh)
                waited.append(time.perf_counter() - asked)
                held[0], metrics = step(held[0], in_range(batch), known, setting.of_teacher)
            jax.block_until_ready((held[0], metrics))
        spent.append(time.perf_counter() - since)

    def facts() -> dict[str, float]:
        # Without the call that compiled the program.
        return {"share of the time spent waiting for input": sum(waited[BATCHES:]) / sum(spent[1:])}

    return Part(run, BATCHES * setting.config.batch_size, facts=facts)


def _with_kept(setting: Setting, batches: Iterator, known: dict) -> tuple[Iterator, dict]:
    """Adds features of noise in the place of those that a teacher gives."""
    features = np.asarray(setting.batch["teacher"])
    if known:
        rows = np.resize(features, (len(known["image"]), *features.shape[1:]))
        return batches, known | {"teacher": device_cache.with_rows(rows, setting.mesh)}
    return (batch | {"teacher": features} for batch in batches), known


def evaluation(setting: Setting) -> Part:
    """A test set from records to features of the faces at full resolution, each in both orientations."""
    state = setting.fresh_state()
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    variables = jax.device_put(variables, sharding.replicated(setting.mesh))
    size = sharding.rounded_up("--config.eval_batch_size", setting.config.eval_batch_size, setting.mesh)
    source = _training_sets(setting)[0].source
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
