"""The paper's ablation recipe: ResNet34 on CASIA-WebFace (Ling et al. 2022, section 4.1; Tables 1-6, rows "Res34").

Command:
  python -m lrfr_jax.prepare recordio --source faces_webface_112x112 --name casia --data_dir DIR --shards 16
  python -m lrfr_jax.main --config configs/casia_r34.py --workdir W --data_dir DIR
Arguments: policy=none|aug|maug|paug|single7|single28|bt_m|st_m1|st_m2, batch_size, head (of
configs/common.py).
Hardware of the paper: two GTX 1080 Ti.
Expected (paper): LFW 99.03, XQLFW 92.18; with policy=none LFW 99.42, XQLFW 68.95.
Data: 10,572 identities after InsightFace's cleaning, 112x112; non-commercial research.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg=None):
    args = common.parse_arg(arg, policy="maug", batch_size=256, head="cosface")
    config = ConfigDict()
    config.seed = 0
    config.batch_size = args.batch_size  # paper 4.1; on two GPUs, so 128 per BatchNorm batch in the released code
    config.num_epochs = 28.0  # paper 4.1; the released script runs 29
    config.log_every_steps = 100
    config.checkpoint_every_steps = 2000
    config.eval_every_steps = 2000
    config.batch_parts = 1
    config.remat = "none"
    config.keep_checkpoints = 3
    config.init_from = ""
    config.class_centers = "random"
    config.classifier = common.classifier()

    config.input = common.reading("casia", num_threads=16, prefetch_images=4096)
    config.augment = common.augment(args.policy)
    config.model = ConfigDict(
        {
            "backbone": "resnet34",
            "width": 1.0,
            "embedding_size": 512,
            "dropout": 0.4,  # released model/resnet.py
            "dtype": "float32",
            "batch_norm": "per_view",  # the released code's two forwards
            "input": common.model_input(),
        }
    )
    config.head = common.head(args.head)
    config.loss = common.loss(args.policy)
    config.terms = {}
    config.parts = {}
    config.classified = "feature"
    config.teacher = common.teacher()
    config.optimizer = ConfigDict(
        {
            "schedule": "steps",
            "learning_rate": 0.1,  # paper 4.1
            "warmup_epochs": 0.0,
            "milestone_epochs": (16.0, 24.0),  # paper 4.1
            "decay_factor": 0.1,  # "divided by 10"
            "algorithm": "sgd",
            "momentum": 0.9,  # paper 4.1
            "nesterov": False,
            "betas": (),  # of AdamW, as epsilon
            "epsilon": 0.0,
            "weight_decay": 5e-4,  # paper 4.1
            "weight_decay_on": "all",  # released script: every parameter
            "weight_decay_by_prefix": (),
            "decay_towards": "zero",
            "weight_average": 0.0,  # none
            "clip_norm": 0.0,
            "classifier_rate_factor": 1.0,
            "frozen": (),
        }
    )
    # Two sizes keep evaluation below a fiftieth of the operations; `lrfr_jax.evaluate --resolutions` takes any others.
    config.evals = ConfigDict({"lfw": common.verification(resolutions=(14, 7))})
    config.eval_batch_size = 256
    return config
