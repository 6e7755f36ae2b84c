"""Bridge distillation (Ge et al. 2020): a large network is fitted to a public set, and then a tiny one to that.

Command (the first is bridge 1, the second bridge 2; docs/finetuning.md imports the large network's weights):
  python -m lrfr_jax.main --config configs/systems/bridge_kd.py --workdir runs/bridge_kd_1 --data_dir DIR
  python -m lrfr_jax.main --config configs/systems/bridge_kd.py:step=2,size=16 --workdir W --data_dir DIR
Bridge 1 starts from `--config.init_from=DIR`, by default pretrained/arcface_r50, which stays as it is: what it trains
is an adaptation of the feature to 128 numbers, their classifier, and a decoder back to the feature. So its checkpoint
embeds as the weights did, and it has no test set. Bridge 2 trains a student that shrinks every face to one small size,
with `--config.teacher.checkpoint=T`, by default the last checkpoint of the first command.
Arguments: step=1|2, size=16|32|64|96 (one student each), dataset, backbone, embedding_size (the large network's),
batch_size, num_epochs.
Hardware: not told.
Published: LFW at 16 px 85.88, by RPCL's table. No row of the paper's tables.
Source: the abstract: two steps, and a student of 0.21 M parameters.
Ours: all else, the networks' layers (216,032 weights in the student's convolutions and linear layer), the weights 1 of
both distances, and the recipes.
"""

from ml_collections import ConfigDict

from configs import casia_r34, common, finetune

LAST_STEP = 38_330  # of bridge 1: 10 epochs of 490,623 images, by 128
SIZES = (16, 32, 64, 96)
HIDDEN, COMPACT = 256, 128  # channels of the adaptation


def get_config(arg=None):
    args = common.parse_arg(
        arg,
        step=1,
        size=16,
        dataset="casia",
        backbone="iresnet50",
        embedding_size=512,
        batch_size=128,
        num_epochs=10.0,
    )
    if args.step not in (1, 2):
        raise ValueError(f"step={args.step} is unknown: choose 1 or 2")
    if args.size not in SIZES:
        raise ValueError(f"size={args.size} is unknown: choose one of {', '.join(map(str, SIZES))}")
    return _first(args) if args.step == 1 else _second(args)


def _first(args):
    passed = ",".join(f"{key}={value}" for key, value in args.items() if key not in ("step", "size"))
    config = finetune.get_config(f"policy=none,head=linear_softmax,{passed}")
    config.class_centers = "random"
    config.parts = ConfigDict(
        {
            "adaptation": {"part": "perceptron", "of": "feature", "channels": (HIDDEN, COMPACT)},
            "decoder": {"part": "perceptron", "of": "adaptation", "channels": (args.embedding_size,)},
        }
    )
    config.classified = "adaptation"
    config.terms = _mimic("student.hr.decoder", "student.hr.feature")
    config.optimizer.learning_rate = 0.01
    config.optimizer.frozen = ("backbone",)
    config.evals = ConfigDict({})
    return config


def _second(args):
    config = casia_r34.get_config(f"policy=none,batch_size={args.batch_size},head=linear_softmax")
    config.num_epochs = args.num_epochs
    config.input.dataset = args.dataset
    config.model.update({"backbone": "bridge_student", "embedding_size": COMPACT, "dropout": 0.0})
    config.model.input.size = args.size
    config.terms = _mimic("student.hr.feature", "teacher.hr.adaptation")
    config.teacher = common.teacher(f"runs/bridge_kd_1/checkpoints/{LAST_STEP}")
    config.optimizer.schedule, config.optimizer.milestone_epochs, config.optimizer.decay_factor = "cosine", (), 1.0
    config.optimizer.learning_rate = 0.05
    config.evals.lfw.resolutions = (args.size,)
    config.evals.lfw.fusion = "none"
    return config


def _mimic(*of):
    return ConfigDict({"mimic": common.term("mse", *of, weight=1.0)})
