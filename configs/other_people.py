"""What keeps a fine-tuned network whole for people that it was not trained on, one option a run.

Command (docs/results.md prepares the data and holds the results; configs/sweeps/other_people.py has all rows):
  python -m lrfr_jax.main --config configs/other_people.py:option=near_start,train=lfw --workdir W --data_dir DIR
Arguments: option (a row of the table below), train=lfw|pubfig, part=development|test (the sets that it is tested on),
  batch_size, num_steps (of steps with two views of a face).
Each run is tested on people of its own population, whom it did not see and whose thresholds are carried over, and on
people of the other one. Choices are made on part=development.
Hardware: a CPU core, 10 to 15 minutes a run.
Data: LFW (research use) and PubFig (non-commercial research).
"""

from configs import common, finetune_lfw_pubfig

# train: its set, of how many images, and what thresholds are found on: other people of the same population
TRAINED_ON = {"lfw": ("lfw_alone", 7_143, "lfw_folds_7_10"), "pubfig": ("pubfig_alone", 3_613, "pubfig_folds_1_3")}
# train: the sets of pairs and of a search of the other population, of each part
TESTED_ON = {
    "lfw": {"development": "pubfig_{}_1_3", "test": "pubfig_{}_4_10"},
    "pubfig": {"development": "lfw_{}_7_8", "test": "lfw_{}_9_10"},
}

_STEM = ("conv", "bn", "prelu", "depthwise", "depthwise_bn", "depthwise_prelu")
_FROZEN = ("classifier", *(f"backbone/stem_{part}" for part in _STEM), "backbone/stage1", "backbone/stage2")
_SAME_FACE = "student.hr.feature", "teacher.hr.feature"
_HR_TO_START = common.term("cosine", *_SAME_FACE, weight=30.0, over="sum")
_TWO_VIEWS = {"augment.views.lr.share": 1.0, "terms.lr_to_start.weight": 30.0}

# option: the policy of configs/finetune.py, changes, terms besides; 'free' is what docs/results.md found best on LFW's
# own people, 'two_views' is 'faithful' as it was first: it sees each face twice.
OPTIONS = {
    "free": ("maug", {}, {}),
    "weight_average": ("maug", {"optimizer.weight_average": 0.99}, {}),
    "towards_start": ("maug", {"optimizer.decay_towards": "start", "optimizer.weight_decay": 0.1}, {}),
    "frozen_stages": ("maug", {"optimizer.frozen": _FROZEN}, {}),
    "near_start": ("maug", {}, {"hr_to_start": _HR_TO_START}),
    "two_views": ("faithful", _TWO_VIEWS, {"hr_to_start": _HR_TO_START}),
    "faithful": ("faithful", {}, {}),
}


def get_config(arg=None):
    args = common.parse_arg(arg, option="free", train="lfw", part="development", batch_size=64, num_steps=120)
    for name, table in (("option", OPTIONS), ("train", TRAINED_ON), ("part", TESTED_ON["lfw"])):
        if args[name] not in table:
            raise ValueError(f"{name}={args[name]} is unknown: choose one of {', '.join(table)}")
    policy, changes, terms = OPTIONS[args.option]
    dataset, num_images, calibrated_on = TRAINED_ON[args.train]
    # As many views as of two a face: a step of one takes less than half as long.
    num_steps = args.num_steps * (2 if args.option == "faithful" else 1)
    epochs_per_step = args.batch_size / num_images
    config = finetune_lfw_pubfig.get_config(f"policy={policy},batch_size={args.batch_size}")
    config.input.dataset = dataset
    config.num_epochs = num_steps * epochs_per_step
    config.checkpoint_every_steps = 1000  # at the end only
    config.optimizer.warmup_epochs = min(30, num_steps // 4) * epochs_per_step
    if policy == "maug":
        config.augment.views.lr = common.view(7, 10, 14, 20)
        config.loss.weight_unit = "gradient_share"
        config.loss.distance_weight = 0.25
        config.optimizer.frozen = ("classifier",)
    config.update_from_flattened_dict(changes)
    config.terms.update(terms)
    if terms and policy == "maug":
        config.teacher = common.teacher(config.init_from, cache="records")
        config.class_centers = "teacher"
    pairs, search = (dict(config.evals[name].items()) for name in ("lfw_folds_9_10", "lfw_gallery_9_10"))
    pairs["resolutions"] = search["resolutions"] = (28, 20, 14, 10, 7)
    pairs["comparisons"] = ("hr_lr",)
    tested_on = TESTED_ON[args.train][args.part]
    config.evals = {calibrated_on: pairs, tested_on.format("folds"): pairs, tested_on.format("gallery"): search}
    return config
