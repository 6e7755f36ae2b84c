"""Generated faces, a small ResNet, a CPU, minutes: the README's first command.

Command (`bash launch/quickstart.sh` prepares the data and runs it for policy=none and policy=maug):
  python -m lrfr_jax.main --config configs/quickstart.py:policy=maug --workdir W --data_dir DIR
Arguments: policy=none|aug|maug|paug|single7|single28|bt_m|st_m1|st_m2, batch_size, num_epochs.
Hardware: 2 CPU cores, 2 to 3 minutes for policy=none and 3 to 5 for the others.
Numbers expected (112 / 14 / 7 px, HR-LR, in percent; some points of spread): none 97 / 84 / 70, maug 96 / 94 / 91.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None):
    args = common.parse_arg(arg, policy="maug", batch_size=16, num_epochs=3.5, head="cosface")
    config = ConfigDict()
    config.seed = 0
    config.batch_size = args.batch_size
    config.num_epochs = args.num_epochs
    config.log_every_steps = 20
    config.checkpoint_every_steps = 200
    config.eval_every_steps = 0  # at the end only
    config.batch_parts = 1
    config.remat = "none"
    config.keep_checkpoints = 2
    config.init_from = ""
    config.class_centers = "random"
    config.classifier = common.classifier()

    config.input = common.reading("generated_train", num_threads=4, prefetch_images=512)
    config.augment = common.augment(args.policy)
    config.model = ConfigDict(
        {
            "backbone": "resnet18",
            "width": 0.125,
            "embedding_size": 128,
            "dropout": 0.0,
            "dtype": "float32",
            "batch_norm": "per_view",
            "input": common.model_input(),
        }
    )
    config.head = common.head(args.head)
    config.head.scale = 24.0
    config.head.margin = 0.2
    config.loss = common.loss(args.policy)
    config.optimizer = ConfigDict(
        {
            "schedule": "cosine",
            "learning_rate": 0.05,
            "warmup_epochs": 0.5,
            "milestone_epochs": (),
            "decay_factor": 1.0,
            "algorithm": "sgd",
            "momentum": 0.9,
            "nesterov": False,
            "betas": (),  # of AdamW, as epsilon
            "epsilon": 0.0,
            "weight_decay": 5e-4,
            "weight_decay_on": "all",
            "weight_decay_by_prefix": (),
            "clip_norm": 5.0,
            "classifier_rate_factor": 1.0,
            "frozen": (),
        }
    )
    config.evals = ConfigDict({"generated_test": common.verification(resolutions=(28, 20, 14, 10, 7))})
    config.eval_batch_size = 64
    return config
