"""A run that begins with other weights has exactly these, and class centers that fit them."""

import pathlib

import chex
import jax
import numpy as np
import pytest

from configs import quickstart
from lrfr_jax import image_ops
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.run import experiment, set_features, states, train, warm_start


@pytest.fixture
def config(resnet6):
    config = quickstart.get_config("policy=maug,batch_size=8,num_epochs=0.5")
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16})
    config.update({"eval_batch_size": 16, "class_centers": "mean_embedding"})
    config.evals.generated_test.resolutions = (14,)
    config.optimizer.warmup_epochs = 0.0
    return config


HISTORY = {"kind": "import", "file": "net.pth", "sha256": "0", "layout": "ours", "licence": "", "code": {}}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, resnet6):
    """A checkpoint of a backbone alone: (its folder, variables, module)."""
    config = quickstart.get_config("policy=none")
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16})
    run = experiment.build_run(config, num_identities=2, steps_per_epoch=10.0)
    state = jax.jit(run.init)(jax.random.key(3, impl="rbg"))
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    model = {key: value for key, value in config.model.to_dict().items() if key != "batch_norm"} | {"dropout": 0.4}
    folder = tmp_path_factory.mktemp("pretrained") / "net"
    metadata = {"step": 0, "model": model, "degradation_rounding": "uint8", "history": [HISTORY]}
    checkpoint.save_backbone(folder, variables, metadata)
    return folder, variables, run.backbone


def class_means(backbone, variables, training_set):
    images = [records.decode_image(training_set.source[i]["image"]) for i in range(training_set.num_images)]
    features = np.asarray(backbone.apply(variables, image_ops.normalize(jax.numpy.asarray(images)), train=False))
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.array([training_set.source[i]["label"] for i in range(training_set.num_images)])
    sums = np.stack([features[labels == label].sum(axis=0) for label in range(training_set.num_identities)])
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def test_a_run_starts_from_the_weights_and_their_class_means(config, pretrained, generated_data, tmp_path, monkeypatch):
    monkeypatch.setattr(set_features, "CHUNK", 20)  # 48 images: two whole chunks and a rest
    folder, variables, backbone = pretrained
    config.init_from = str(folder)
    config.optimizer.frozen = ("backbone", "classifier")
    config.model.batch_norm = "frozen"
    train.train(config, workdir=tmp_path / "run", data_dir=pathlib.Path(generated_data))
    last = checkpoint.newest(tmp_path / "run")
    chex.assert_trees_all_equal(checkpoint.load_backbone(last)[0], variables)
    expected = class_means(backbone, variables, face_sets.open_training_set(generated_data, "generated_train"))
    np.testing.assert_allclose(checkpoint.load_class_centers(last), expected, atol=1e-4)

    history = checkpoint.load_metadata(last)["history"]
    assert history[0] == HISTORY
    assert [entry["kind"] for entry in history] == ["import", "training"]
    assert history[1]["recipe"]["optimizer.frozen"] == ["backbone", "classifier"]
    assert "Imported from net.pth" in (last / "card.md").read_text()

    # The run's own checkpoint comes before init_from: the folder is no longer needed.
    config.init_from = "nowhere"
    (tmp_path / "run" / "config.json").unlink()
    train.train(config, workdir=tmp_path / "run", data_dir=pathlib.Path(generated_data))


def test_another_model_is_refused_by_its_differences(config, pretrained):
    config.model.update({"width": 0.125, "batch_norm": "frozen"})
    model = {key: value for key, value in config.model.to_dict().items() if key != "batch_norm"}
    model["input"]["scale"] = 128.0
    sentence = r"model.input.scale is 127.5 there, 128.0 here; model.width is 0.0625 there, 0.125 here\): change config"
    with pytest.raises(UserError, match=sentence):
        warm_start.check(str(pretrained[0]), "random", model=model, begins=True)
    warm_start.check(str(pretrained[0]), "random", model=model, begins=False)


@pytest.mark.parametrize(
    ("init_from", "centers", "sentence"),
    [("", "mean_embedding", "set config.init_from"), ("x", "means", "'means' is unknown: choose one of random, mean_")],
)
def test_settings_that_do_not_fit(init_from, centers, sentence):
    with pytest.raises(UserError, match=sentence):
        warm_start.check(init_from, centers, model={}, begins=True)


def test_an_exported_file_is_told_with_the_command_that_it_needs(tmp_path):
    path = tmp_path / "lowres.safetensors"
    path.write_bytes(b"")
    sentence = rf"init_from={path} is a file: `python -m lrfr_jax.pretrained --source {path} --out DIR` makes"
    with pytest.raises(UserError, match=sentence):
        warm_start.check(str(path), "random", model={}, begins=True)


def run_with(resnet6, identities, *, shards, head="linear_softmax"):
    config = quickstart.get_config(f"policy=none,head={head}")
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16})
    config.classifier.shards = shards
    return experiment.build_run(config, num_identities=identities, steps_per_epoch=10.0)


def test_a_classifier_goes_on_over_other_shards_and_for_the_same_identities_alone(resnet6, pretrained, tmp_path):
    """11 identities take 11 rows, or 12 over four shards; each with a bias of its own."""
    run, mesh = run_with(resnet6, 11, shards=1), sharding.make_mesh(class_shards=1)
    state = run.fresh_state(5, mesh)
    there = state.params["classifier"] | {"class_bias": jax.numpy.arange(11.0)}
    backbone, training = states.split(state.replace(params=state.params | {"classifier": there}))
    model = checkpoint.load_metadata(pretrained[0])["model"]
    metadata = {"step": 1, "model": model, "degradation_rounding": "uint8", "data": {"num_identities": 11}}
    manager = checkpoint.create_manager(tmp_path, keep=1)
    checkpoint.save(manager, 1, backbone=backbone, training=training, metadata=metadata)
    checkpoint.close(manager)
    path, split = checkpoint.newest(tmp_path), sharding.make_mesh(class_shards=4)
    fresh = run_with(resnet6, 11, shards=4).fresh_state(0, split)
    found = warm_start.with_classifier_of(fresh, path, num_identities=11, mesh=split).params["classifier"]
    assert found["class_centers"].sharding == fresh.params["classifier"]["class_centers"].sharding
    expected = np.pad(np.asarray(there["class_centers"]), ((0, 1), (0, 0)))
    np.testing.assert_array_equal(found["class_centers"], expected)
    np.testing.assert_array_equal(found["class_bias"], [*range(11), 0])
    sentence = "is of 11 identities with class_bias, class_centers, and this run's of {} with {}: both must be the same"
    for identities, head, named in ((12, "linear_softmax", "class_"), (11, "cosface", "class_cent")):
        other = run_with(resnet6, identities, shards=1, head=head).fresh_state(0, mesh)
        with pytest.raises(UserError, match=sentence.format(identities, named).removesuffix(": both must be the same")):
            warm_start.with_classifier_of(other, path, num_identities=identities, mesh=mesh)
    with pytest.raises(UserError, match=r"class_centers='checkpoint': .*net holds no classifier, name a checkpoint of"):
        warm_start.with_classifier_of(fresh, pretrained[0], num_identities=11, mesh=split)
