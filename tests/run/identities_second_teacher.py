"""A config of what `test_multiprocess` runs: images by identity, a second set beside them, a teacher, terms of both."""

from configs import common, quickstart


def get_config(arg=None):
    config = quickstart.get_config(arg)
    config.input.update({"order": "identities", "images_per_identity": 2})
    second = {"dataset": "generated_train", "batch_size": 8, "order": "identities", "images_per_identity": 4}
    config.input.second.update(second)
    config.augment.views["native"] = common.view(14, weight=0.0, source="second")
    same_face = "student.lr.feature", "teacher.hr.feature"
    config.terms = {
        "to_teacher": common.term("cosine", *same_face, weight=1.0, over="mean"),
        "native": common.term(
            "octuplet", "student.native.feature", "student.native.feature", weight=0.5, metric="euclidean", margin=1.0
        ),
    }
    config.teacher = common.teacher("", cache="none")
    return config
