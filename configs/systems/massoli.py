"""Massoli, Amato, Falchi 2020: a copy of the teacher sees some faces small and keeps the teacher's features of them.

Command (docs/finetuning.md imports the weights):
  python -m lrfr_jax.main --config configs/systems/massoli.py --workdir W --data_dir DIR
Teacher and student are both the weights of `--config.init_from=T --config.teacher.checkpoint=T`, by default
pretrained/arcface_r50.
Arguments: dataset, backbone, embedding_size, share=fixed|curriculum, batch_size, num_epochs.
A tenth of the images is degraded; with the curriculum 0.1 more after every 35,000 images, up to all.
Hardware: not told.
Published: no number that could be read; no row of the paper's tables.
Source: fvmassoli/cross-resolution-face-recognition, code read (arXiv 1912.02851). There an SE-ResNet50 of VGGFace2 at
224 px, 8 to 128 px, and the gradients of 8 batches of 32 are added up, not averaged, which makes the rate 0.001 one of
0.008; its curriculum counts in each of 8 reading processes by itself.
Ours: an IResNet50 at 112 px and 8 to 64 px, no random crop, class centers that begin as mean embeddings, BatchNorm's
statistics as they are, half a cosine instead of halving the rate when nothing is gained, and the length.
"""

from configs import common, finetune

SHARES = {"fixed": 0.1, "curriculum": {"first": 0.1, "increment": 0.1, "every_images": 35_000}}


def get_config(arg=None):
    args = common.parse_arg(
        arg,
        dataset="casia",
        backbone="iresnet50",
        embedding_size=512,
        share="fixed",
        batch_size=256,
        num_epochs=2.0,
    )
    if args.share not in SHARES:
        raise ValueError(f"share={args.share} is unknown: choose {' or '.join(SHARES)}")
    passed = ",".join(f"{key}={value}" for key, value in args.items() if key != "share")
    config = finetune.get_config(f"policy=massoli,head=linear_softmax,{passed}")
    views = common.POLICIES["massoli"]
    config.augment.views = views | {"lr": views["lr"] | {"share": SHARES[args.share]}}
    config.augment.gray.probability = 0.2
    config.terms = {"mimic": common.term("mse", "student.lr.feature", "teacher.hr.feature", weight=0.1)}
    config.teacher = common.teacher(config.init_from)
    config.optimizer.learning_rate = 0.001
    return config
