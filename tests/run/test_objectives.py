"""What a config's groups mean together: terms, parts, a teacher, no classifier; one sentence for what does not fit."""

import jax
import jax.numpy as jnp
import pytest

from configs import quickstart
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.errors import UserError
from lrfr_jax.run import experiment

SMALL = {"backbone": "resnet6", "width": 0.0625, "embedding_size": 16}
HISTORY = {"kind": "training", "recipe": {}}
TO_TEACHER = {"term": "mse", "of": ("student.lr.feature", "teacher.hr.feature"), "weight": 1.0, "weight_unit": "lambda"}
CENTERS = {"term": "center_loss", "of": ("student.hr.feature",), "weight": 1.0, "weight_unit": "lambda"}
CENTERS |= {"update": "wen", "rate": 0.5, "over_dims": "sum"}
PART = {"part": "perceptron", "of": "feature", "channels": (8,)}
HINT = {"part": "hint", "of": "stage1", "channels": (4,)}
pytestmark = pytest.mark.usefixtures("resnet6")


@pytest.fixture(scope="module")
def teachers(resnet6, tmp_path_factory):
    """Checkpoints of backbones: as long as the student's feature, of another length, and without a classifier."""
    folder, found = tmp_path_factory.mktemp("teachers"), {}
    for name, size in (("same", 16), ("longer", 24)):
        config = quickstart.get_config("policy=none")
        config.model.update(SMALL | {"embedding_size": size})
        run = experiment.build_run(config, num_identities=2, steps_per_epoch=10.0)
        state = jax.eval_shape(run.init, jax.eval_shape(jax.random.key, 0))
        variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), {"params": state.params["backbone"]})
        model = {key: value for key, value in config.model.to_dict().items() if key != "batch_norm"}
        metadata = {"step": 0, "model": model, "degradation_rounding": "uint8"}
        checkpoint.save_backbone(folder / name, variables, metadata)
        found[name] = str(folder / name)
    with_head = {"data": {"num_identities": 7}, "history": [{"kind": "training", "recipe": {"head.name": "softmax"}}]}
    with_head["history"][0]["recipe"]["head.scale"] = 64.0
    checkpoint.save_backbone(folder / "seven", variables, metadata | with_head)
    return found | {"seven": str(folder / "seven")}


def built(teachers=None, **changes):
    config = quickstart.get_config("policy=maug,batch_size=8")
    config.model.update(SMALL)
    for field, value in changes.items():
        group, _, name = field.rpartition("__")
        path = teachers[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        (config[group] if group else config)[name] = path
    return experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)


def rules(**changes):
    views = quickstart.get_config("policy=maug").augment.views.to_dict()
    for name, rule in changes.items():
        views[name] |= rule
    return views


WITH_TEACHER = {"teacher__checkpoint": "@same", "terms": {"mine": TO_TEACHER}}
KEPT = WITH_TEACHER | {"teacher__cache": "records"}
NO_HEAD = {
    "head": {"name": "none"},
    "augment__views": rules(hr={"weight": 0.0}, lr={"weight": 0.0}),
    "loss__distance_weight": 0.0,
}
CROP = {"probability": 0.2, "areas": (0.2, 1.0), "aspects": (3 / 4, 4 / 3)}


def of(*names, **more):
    return {"mine": TO_TEACHER | {"of": names} | more}


def test_what_is_read_of_whom(teachers):
    run = built(teachers, **WITH_TEACHER)
    assert run.teacher.read == {"hr": ("feature",)}
    assert not run.teacher.is_kept
    assert built(teachers, **KEPT).teacher.is_kept
    state = jax.eval_shape(run.init, jax.eval_shape(jax.random.key, 0))
    assert set(state.params) == {"backbone", "classifier"}
    alone = built(terms={"mine": CENTERS}, parts={"map": HINT}, **NO_HEAD)
    assert alone.classifier is None
    state = jax.eval_shape(alone.init, jax.eval_shape(jax.random.key, 0))
    assert (set(state.params), state.terms["mine"]["centers"].shape) == ({"backbone", "parts"}, (5, 16))
    assert state.params["parts"]["map"]["conv"]["kernel"].shape == (1, 1, 8, 4)
    classified = built(parts={"head": PART}, classified="head")
    state = jax.eval_shape(classified.init, jax.eval_shape(jax.random.key, 0))
    assert state.params["classifier"]["class_centers"].shape == (5, 8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"parts": {"feature": PART}}, r"parts\.feature has the name of a tap of the network: give it another"),
        ({"parts": {"logits": PART}}, r"parts\.logits has the name of a tap"),
        (
            {"parts": {"one": PART | {"of": "stage9"}}},
            r"parts\.one\.of='stage9' is nothing .*: choose one of stage1, s",
        ),
        (
            {"parts": {"one": PART | {"of": "two"}, "two": PART | {"of": "one"}}},
            r"parts\.two\.of='one' is nothing that it can read: choose one of stage1, stage2, feature$",
        ),
        ({"parts": {"one": PART | {"of": "one"}}}, r"parts\.one\.of='one' is nothing that it can read"),
        ({"parts": {"one": PART | {"channels": ()}}}, r"parts\.one\.channels=\(\) must be one number for each layer"),
        ({"parts": {"one": HINT | {"channels": (4, 4)}}}, r"parts\.one\.channels=\(4, 4\) must be one number, whole"),
        (
            {"parts": {"one": PART | {"channels": (0,)}}},
            r"channels=\(0,\) must be one number for each layer, whole and",
        ),
        ({"parts": {"one": PART | {"part": "mlp"}}}, r"parts\.one\.part='mlp' is unknown: choose one of hint, percep"),
        (
            {"parts": {"one": {"part": "hint", "of": "stage1"}}},
            r"parts\.one has the fields of, part: give part, of and",
        ),
        ({"parts": {"one": HINT | {"of": "feature"}}}, r"parts\.one reads maps, and feature has the shape \[16\]"),
        (
            {"parts": {"one": PART | {"of": "stage1"}}},
            r"parts\.one reads features, and stage1 has the shape \[\d+, \d+",
        ),
        ({"classified": "stage1"}, r"classified='stage1' is no feature: choose one of feature$"),
        ({"classified": "logits"}, r"classified='logits' is no feature"),
        (
            {"terms": of("student.lr.nose", "student.hr.feature")},
            r"the student has no tap 'nose': choose one of stage1",
        ),
        (
            {"terms": of("student.lr.stage1", "student.hr.stage2")},
            r"terms\.mine of student\.lr\.stage1 and student\.hr",
        ),
        ({"terms": {"classification": CENTERS}}, r"terms\.classification has the name of another metric"),
        ({"terms": {"distance_weight": CENTERS}}, r"terms\.distance_weight has the name of another metric"),
        ({"terms": {"a": CENTERS, "a_weight": CENTERS}}, r"terms\.a_weight has the name of another metric"),
        (
            {"terms": of("teacher.lr.feature", "teacher.hr.feature")},
            r"mine\.of names the teacher alone, which does not",
        ),
        ({"terms": {"mine": TO_TEACHER}}, "a term reads the teacher, and teacher.checkpoint is '': name a checkpoint"),
        ({"teacher__cache": "records"}, "teacher.cache and teacher.compatible_from are of a teacher"),
        ({"teacher__checkpoint": "@same"}, r"is read by no term: name teacher\.VIEW\.TAP in one, or set it to ''"),
        (WITH_TEACHER | {"teacher__cache": "disk"}, "teacher.cache='disk' is unknown: choose one of none, records"),
        (WITH_TEACHER | {"teacher__compatible_from": 113}, r"teacher\.compatible_from=113 must be pixels in 0\.\.112"),
        (WITH_TEACHER | {"teacher__checkpoint": "nowhere"}, "nowhere is no checkpoint"),
        (
            WITH_TEACHER | {"teacher__checkpoint": "@longer"},
            r"terms\.mine of student\.lr\.feature and teacher\.hr\.feature: features of the shapes \[16\] and \[24\] h",
        ),
        (
            WITH_TEACHER | {"terms": of("student.lr.feature", "teacher.hr.stage7")},
            r"teacher\.checkpoint=.*same: the teacher has no tap 'stage7': choose one of stage1, stage2, feature",
        ),
        (
            WITH_TEACHER | {"terms": of("student.lr.logits", "teacher.hr.logits")},
            r"reads the logits of teacher\.checkpoint=.*same, which was saved without a classifier",
        ),
        (
            WITH_TEACHER | {"teacher__checkpoint": "@seven", "terms": of("student.lr.logits", "teacher.hr.logits")},
            r"seven, which are of 7 identities, and the training set has 5: train the teacher on that set",
        ),
        (KEPT | {"terms": of("student.lr.stage1", "teacher.hr.stage1")}, r"terms read teacher\.hr\.stage1: set it to"),
        (
            KEPT | {"terms": of("student.lr.feature", "teacher.lr.feature")},
            r"augment\.views\.lr does not show it as it",
        ),
        (KEPT | {"augment__crop": CROP}, r"keeps the features of each record's image, and augment\.crop changes it"),
        (KEPT | {"augment__gray": {"probability": 0.2}}, r"augment\.gray changes it: set it to 'none'"),
        (
            KEPT | {"augment__border_probability": 0.5, "augment__border_largest": 9},
            r"augment\.border_probability changes it",
        ),
        (NO_HEAD, "head.name='none' needs a term in the group `terms`: nothing would be learned"),
        (NO_HEAD | {"augment__views": rules()}, r"weighs hr, lr and head\.name='none': set the weights to 0"),
        (
            NO_HEAD | {"terms": {"mine": CENTERS | {"weight_unit": "gradient_share"}}},
            r"gradient_share' is a share of a classification's gradient, and there is none: set it to 'lambda'",
        ),
        (
            NO_HEAD | {"terms": {"mine": CENTERS}, "class_centers": "mean_embedding"},
            r"config\.class_centers='mean_embedding' is of a classifier, and head\.name='none' has none: set it to 'ra",
        ),
        (
            {"parts": {"head": PART}, "classified": "head", "class_centers": "mean_embedding"},
            r"are means of a backbone's feature, and the classifier reads head",
        ),
        (
            NO_HEAD | {"terms": of("student.lr.logits", "student.hr.logits")},
            r"the student has no tap 'logits': choose one of stage1, stage2, feature$",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(teachers, changes, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        built(teachers, **changes)
    assert "\n" not in str(error.value)
