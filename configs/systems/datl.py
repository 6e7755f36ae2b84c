"""DATL and DAQL (Ghosh, Singh, Vatsa 2019): triplets and quadruplets with a class's densest region (Table 1).

Command (configs/finetune_scface.py prepares the data):
  python -m lrfr_jax.main --config configs/systems/datl.py:loss=daql --workdir W --data_dir DIR
The weights are those of `--config.init_from=DIR`, by default the last checkpoint of the CASIA recipe.
Arguments: loss=datl|daql, backbone, embedding_size, batch_size, num_epochs.
Hardware: not told.
Published (SCface after fine-tuning, d1, d2, d3, called probes of 24, 32 and 48 px; of a protocol that 400 probes do not
  give): DATL 76.2, 96.9, 98.1; DAQL 77.3, 96.6, 98.1.
Source: the abstract: features are pulled to the densest region of their class, by iteratively shifting the estimate
of its center; that they fine-tune LightCNN is from memory.
Ours: the formula of the dense center and its bandwidth, margins of squared distances between unit features, 16
identities x 4 images, views at full and at the probes' resolutions mixed in a class, no classifier beside it, and the
recipe of configs/finetune_scface.py. For sets of many identities `--config.terms.dense.memory=0.9` keeps the centers
across batches.
"""

from ml_collections import ConfigDict

from configs import common, finetune_scface

MARGINS = {"datl": {"margin": 0.5}, "daql": {"margin": 0.5, "second_margin": 0.25}}


def get_config(arg=None):
    args = common.parse_arg(arg, loss="datl", backbone="resnet34", embedding_size=512, batch_size=64, num_epochs=20.0)
    if args.loss not in MARGINS:
        raise ValueError(f"loss={args.loss} is unknown: choose {' or '.join(MARGINS)}")
    passed = ",".join(f"{key}={value}" for key, value in args.items() if key != "loss")
    config = finetune_scface.get_config(passed)
    config.class_centers = "random"
    config.head = ConfigDict({"name": "none"})
    config.input.order = "identities"
    config.input.images_per_identity = 4
    # Nothing is classified.
    config.augment.views = {"hr": common.view(weight=0.0), "lr": common.view(24, 32, 48, weight=0.0)}
    config.loss.distance_weight = 0.0
    views = "student.hr.feature", "student.lr.feature"
    numbers = {"bandwidth": 0.5, "iterations": 10, "memory": 0.0} | MARGINS[args.loss]
    config.terms = {"dense": common.term(args.loss, *views, weight=1.0, **numbers)}
    return config
