"""A run with a teacher: killed and continued, its features kept beside the set, and what its checkpoints promise."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import time

import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from lrfr_jax import evaluate, image_ops, models
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.objective import view_rules
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.total_loss import Objective
from lrfr_jax.run import device_cache, experiment, metric_writers, set_features, teachers, terms, train
from lrfr_jax.trained.model import open_model
from tests.run import identities_second_teacher
from tests.run.test_sources import noted
from tests.run.test_warm_start import class_means

SMALL = {"width": 0.0625, "embedding_size": 16}
TO_TEACHER = {
    "term": "cosine",
    "of": ("student.lr.feature", "teacher.hr.feature"),
    "weight": 2.0,
    "weight_unit": "lambda",
    "over": "sum",
}
RECORDS = {"teacher.cache": "records"}


@pytest.fixture(scope="module")
def data_dir(generated_data, tmp_path_factory):
    """A copy, beside whose set features may be kept."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("generated_train", "generated_test"):
        shutil.copytree(pathlib.Path(generated_data) / name, folder / name)
    return folder


def base(resnet6):
    config = quickstart.get_config("policy=none,batch_size=8,num_epochs=1")  # 48 images: 6 steps
    config.model.update(SMALL | {"backbone": resnet6})
    config.update({"log_every_steps": 1, "checkpoint_every_steps": 2, "eval_every_steps": 0, "eval_batch_size": 20})
    config.evals = {}
    config.optimizer.warmup_epochs = 0.0
    return config


@pytest.fixture(scope="module")
def teacher(resnet6, data_dir, tmp_path_factory):
    """The checkpoint of a run of two steps."""
    config, folder = base(resnet6), tmp_path_factory.mktemp("teacher")
    config.num_epochs = 2 / 6
    train.train(config, workdir=folder, data_dir=data_dir)
    return checkpoint.newest(folder)


@pytest.fixture(scope="module")
def start(resnet6, data_dir, teacher):
    """Trains a student: low-resolution faces are classified, and pulled to the teacher's feature of the image."""

    def started(workdir, **changes):
        config = base(resnet6)
        rules = quickstart.get_config("policy=aug").augment.views.to_dict()
        rules["hr"]["weight"], rules["lr"]["weight"] = 0.0, 1.0
        config.augment.views = rules
        config.augment.flip = "independent"  # the views of an image may be mirrored one without the other
        config.terms = {"to_teacher": TO_TEACHER}
        config.teacher.update({"checkpoint": str(teacher), "compatible_from": 112})
        config.update_from_flattened_dict(changes)
        train.train(config, workdir=workdir, data_dir=data_dir)

    return started


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    start(folder)
    return folder


def kept_files(data_dir):
    return {path: path.stat().st_mtime_ns for path in data_dir.rglob("teacher-*")}


def assert_close(one, other):
    """Metrics of two runs, line by line."""
    lines = [metric_writers.read_metrics(folder) for folder in (one, other)]
    assert len(lines[0]) >= 6
    for here, there in zip(*lines, strict=True):
        assert here == pytest.approx(there, rel=1e-4, abs=1e-5)


def test_a_killed_run_goes_on_though_its_teacher_was_moved(start, whole, teacher, tmp_path):
    def kill(number):
        while number == 4 and not (tmp_path / "run/checkpoints/4").exists():
            time.sleep(0.01)
        if number == 4:
            raise KeyboardInterrupt

    with noted(kill), pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run")
    moved = shutil.copytree(teacher, tmp_path / "elsewhere")
    start(tmp_path / "run", **{"teacher.checkpoint": str(moved)})
    assert (tmp_path / "run/metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    states = [checkpoint.load_backbone(checkpoint.newest(folder))[0] for folder in (tmp_path / "run", whole)]
    for name in ("params", "batch_stats"):
        np.testing.assert_equal(*(np_tree(state[name]) for state in states))
    line = metric_writers.read_metrics(whole)[0]
    assert {"train/to_teacher", "train/to_teacher_weight", "train/grad_norm_to_teacher"} < set(line)
    assert line["train/to_teacher_weight"] == 2.0


def np_tree(tree):
    return {key: np_tree(value) for key, value in tree.items()} if isinstance(tree, dict) else np.asarray(tree)


def test_another_teacher_is_refused(start, whole, teacher, tmp_path):
    variables, metadata = checkpoint.load_backbone(teacher)
    variables["params"]["neck"]["linear"]["kernel"] += 1e-3
    checkpoint.save_backbone(tmp_path / "other", variables, metadata)
    sentence = (
        rf"learned from the teacher {teacher} \(\w{{16}}\), and config.teacher.checkpoint is .*other \(\w{{16}}\): "
    )
    with pytest.raises(UserError, match=sentence):
        start(whole, **{"teacher.checkpoint": str(tmp_path / "other"), "num_epochs": 2.0})


def test_a_teacher_is_known_by_all_that_is_read_of_it(resnet6, data_dir, tmp_path):
    """Of two steps that trained a part and a classifier alone, over one frozen network."""
    config = base(resnet6)
    config.update({"num_epochs": 2 / 6, "checkpoint_every_steps": 1, "keep_checkpoints": 2, "classified": "small"})
    config.model.batch_norm = "frozen"
    config.parts = {"small": {"part": "perceptron", "of": "feature", "channels": (4,)}}
    config.optimizer.frozen = ("backbone",)
    train.train(config, workdir=tmp_path, data_dir=data_dir)
    steps = [str(tmp_path / "checkpoints" / step) for step in "12"]
    data = checkpoint.load_metadata(steps[0])["data"]
    rules, augment = view_rules.views_of(config.augment.views.to_dict()), config.augment.to_dict()

    def digests(tap):
        of = ("student.hr.feature", f"teacher.hr.{tap}")
        term = {"mimic": {"term": "mse", "of": of, "weight": 1.0, "weight_unit": "lambda"}}
        objective = Objective(Names({}, None, None), {}, terms.terms_of(term, {"hr": "first"}))
        for step in steps:
            settings = {"checkpoint": step, "cache": "none", "compatible_from": 0}
            read = teachers.build(settings, objective, rules, augment, num_identities=data["num_identities"])
            yield teachers.digests_of(step, read)

    network = open_model(steps[0]).weights
    assert network == open_model(steps[1]).weights
    assert list(digests("feature")) == [(network, network)] * 2
    for tap in ("small", "logits"):
        (one, whole), (other, another) = digests(tap)
        assert one == other == network
        assert len({network, whole, another}) == 3


def test_features_that_are_kept_are_those_of_the_step(start, whole, data_dir, tmp_path):
    """From the host and from the devices; what one run made the next one reads."""
    start(tmp_path / "host", **RECORDS)
    assert_close(tmp_path / "host", whole)
    files = kept_files(data_dir)
    assert len(files) == 1
    start(tmp_path / "device", **RECORDS, **{"input.cache": "device"})
    assert kept_files(data_dir) == files
    assert (tmp_path / "device/metrics.jsonl").read_text() == (tmp_path / "host/metrics.jsonl").read_text()


def test_each_image_of_a_batch_of_identities_has_its_own_features(start, teacher, data_dir, tmp_path):
    identities = {"input.order": "identities", "input.images_per_identity": 2, "num_epochs": 1 / 6}
    with noted() as batches:
        start(tmp_path / "run", **RECORDS, **identities)
    variables, metadata = checkpoint.load_backbone(teacher)
    backbone, [batch] = models.create_backbone(**metadata["model"]), batches
    assert (batch["label"].reshape(4, 2) == batch["label"].reshape(4, 2)[:, :1]).all()
    for side, images in enumerate((batch["image"], batch["image"][:, :, ::-1])):
        found = backbone.apply(variables, image_ops.normalize(jnp.asarray(images)), train=False)
        np.testing.assert_allclose(batch["teacher"][:, side], found, rtol=1e-3, atol=1e-4)


# ---- The file of what is kept.


@pytest.fixture(scope="module")
def keep(teacher, data_dir, resnet6):
    backbone = models.create_backbone(**checkpoint.load_metadata(teacher)["model"])
    frozen = teachers.Teacher(backbone, teachers.Names({}, None, None), {"hr": ("feature",)}, is_kept=True)
    training_set = face_sets.open_training_set(str(data_dir), "generated_train")
    mesh = sharding.make_mesh(class_shards=1)

    def kept(folder, **changes):
        there = dataclasses.replace(training_set, path=folder, **changes)
        how = {"digest": "sha256:t", "mesh": mesh, "batch_size": 16, "num_threads": 2}
        return teachers.kept_features(str(teacher), frozen, there, **how)

    return kept


def test_an_interrupted_write_leaves_nothing(keep, tmp_path, monkeypatch):
    monkeypatch.setattr(set_features, "CHUNK", 20)  # 48 images: two whole chunks and a rest
    real = set_features.of_images

    def interrupted(*arguments, **how):
        yield next(real(*arguments, **how))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(set_features, "of_images", interrupted)
        with pytest.raises(KeyboardInterrupt):
            keep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    found = keep(tmp_path)
    assert (found.shape, found.dtype) == ((48, 2, 16), np.float32)
    monkeypatch.setattr(set_features, "CHUNK", 48)
    (tmp_path / "more").mkdir()
    np.testing.assert_allclose(found, keep(tmp_path / "more"), rtol=1e-5, atol=1e-5)


def test_the_file_is_of_the_content_and_the_teacher(keep, tmp_path):
    keep(tmp_path)
    keep(tmp_path, digest="sha256:other")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:50])
    files[1].write_bytes(b"")
    with pytest.raises(
        UserError, match=rf"{tmp_path}/teacher-\w+.npy cannot be read \(.*\): remove it, and it is made"
    ):
        keep(tmp_path)
    with pytest.raises(UserError, match=rf"knows a set by its digest, and {tmp_path} was prepared before sets had one"):
        keep(tmp_path, digest="")
    with pytest.raises(UserError, match=r"nosuch/teacher-\w+.npy cannot be written \(.*\): make room, or set teacher"):
        keep(tmp_path / "nosuch")


@pytest.mark.parametrize("cache", teachers.CACHES)
def test_class_centers_are_the_means_of_the_teacher(cache, start, teacher, data_dir, tmp_path, monkeypatch):
    """Of a student with weights of its own; it is not asked how the teacher would see mirrored faces."""
    monkeypatch.setattr(set_features, "CHUNK", 20)
    changes = {"class_centers": "teacher", "optimizer.frozen": ("classifier",), "num_epochs": 1 / 6}
    start(tmp_path / "run", **changes, **{"teacher.cache": cache})
    variables, metadata = checkpoint.load_backbone(teacher)
    training_set = face_sets.open_training_set(str(data_dir), "generated_train")
    expected = class_means(models.create_backbone(**metadata["model"]), variables, training_set)
    found = checkpoint.load_class_centers(checkpoint.newest(tmp_path / "run"))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_features_are_kept_beside_a_second_set(teacher, resnet6):
    """Whose views are mirrored by coins of their own."""
    config = identities_second_teacher.get_config("policy=maug,batch_size=8,num_epochs=1")
    config.model.update(SMALL | {"backbone": resnet6})
    config.teacher.update({"checkpoint": str(teacher), "cache": "records"})
    run = experiment.build_run(config, num_identities=6, steps_per_epoch=6.0, second_identities=6)
    assert run.teacher.is_kept


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"model.embedding_size": 24},
            r"config\.class_centers='teacher': the teacher's features are 16 numbers long, and those .* classified 24:",
        ),
        ({"teacher.checkpoint": "", "teacher.compatible_from": 0, "terms": {}}, "needs a teacher: set config.teacher"),
    ],
)
def test_a_teacher_that_can_give_no_class_centers(changes, sentence, start, tmp_path):
    with pytest.raises(UserError, match=sentence):
        start(tmp_path, **{"class_centers": "teacher"}, **changes)


def test_features_that_do_not_fit_on_the_devices_are_told(monkeypatch):
    monkeypatch.setattr(device_cache, "_free_bytes", lambda devices: 100)
    sentence = "wants 1.28e-07 GB more on each device for the teacher's features of 2 images, 1e-07 GB are free"
    with pytest.raises(UserError, match=sentence):
        device_cache.with_rows(np.zeros((2, 2, 8), np.float32), sharding.make_mesh(class_shards=1))


# ---- What a model promises that fits its teacher.


def test_checkpoints_say_the_teacher_and_what_they_fit(whole, teacher):
    metadata = checkpoint.load_metadata(checkpoint.newest(whole))
    digest = open_model(teacher).weights
    assert metadata["teacher"] == {"checkpoint": str(teacher), "digest": digest}
    assert metadata["compatible_with"]["digest"] == digest
    assert metadata["compatible_with"]["resolution"] == 112
    assert "teacher" not in checkpoint.load_metadata(teacher)
    assert digest[:16] in (checkpoint.newest(whole) / "card.md").read_text()


def test_large_faces_are_the_teachers_by_construction(whole, teacher, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.result_figures, "draw", lambda *_: False)

    def evaluated(model, *more):
        output = tmp_path / "report.json"
        with contextlib.suppress(FileNotFoundError):
            output.unlink()
        given = [f"--checkpoint={model}", f"--data_dir={data_dir}", "--sets=generated_test", f"--output={output}"]
        evaluate.main([*given, "--resolutions=14", *more])
        return json.loads(output.read_text())["sets"]["generated_test"]

    student = checkpoint.newest(whole)
    both, alone = evaluated(student, f"--gallery_checkpoint={teacher}"), evaluated(teacher)
    of_large, others = (
        [[row for row in one["results"] if (row["resolution"] == 112) == is_large] for one in (both, alone)]
        for is_large in (True, False)
    )
    assert of_large[0] == of_large[1] != []
    assert others[0] != others[1]
    variables, metadata = checkpoint.load_backbone(teacher)
    variables["params"]["neck"]["linear"]["kernel"] += 1e-3
    checkpoint.save_backbone(tmp_path / "stranger", variables, metadata)
    with pytest.raises(UserError, match="cannot be compared: name the model that one of them was trained to fit"):
        evaluated(student, f"--gallery_checkpoint={tmp_path / 'stranger'}")
