"""TCN (Zha, Chao 2019): a low-resolution network, coupled to the high-resolution one that it began as (Table 1).

Command (configs/finetune_scface.py prepares the data; the first makes the high-resolution network):
  python -m lrfr_jax.main --config configs/systems/tcn.py:stage=teacher --workdir runs/tcn_teacher --data_dir DIR
  python -m lrfr_jax.main --config configs/systems/tcn.py --workdir W --data_dir DIR
  python -m lrfr_jax.evaluate --workdir W --gallery_checkpoint T --gallery_from 113 --sets scface --data_dir DIR
Teacher, first weights and classifier are those of `--config.init_from=T --config.teacher.checkpoint=T`, by default the
last checkpoint of the first command, which begins with the baseline of Table 4 (configs/sweeps/table4.py).
Arguments: stage=student|teacher, backbone, embedding_size, batch_size, num_epochs.
Hardware: not told.
Published (SCface after fine-tuning; of a protocol that 400 probes do not give): d1 74.6, d2 94.9, d3 98.6.
Source: the title and memory; no text was found.
Ours: nearly all: squared distances of raw features, the margin, the weights 1 of the terms, 16 identities x 4 images,
low resolutions of 24, 32 and 48 px, every layer of the low-resolution network trained, and the recipe of
configs/finetune_scface.py for both networks. Galleries are read by the one and probes by the other (the last command;
its 113 is there because the set's probes are enlarged to 112 px).
"""

from configs import common, finetune_scface

LAST_STEP = 250  # of the teacher: 20 epochs of 50 persons with 16 images, by 64


def get_config(arg=None):
    args = common.parse_arg(
        arg, stage="student", backbone="resnet34", embedding_size=512, batch_size=64, num_epochs=20.0
    )
    if args.stage not in ("student", "teacher"):
        raise ValueError(f"stage={args.stage} is unknown: choose student or teacher")
    passed = ",".join(f"{key}={value}" for key, value in args.items() if key != "stage")
    config = finetune_scface.get_config(f"policy=none,head=linear_softmax,{passed}")
    if args.stage == "teacher":
        config.init_from = "runs/paper/baseline/seed0/checkpoints/53662"
        return config
    config.init_from = f"runs/tcn_teacher/checkpoints/{LAST_STEP}"
    config.class_centers = "checkpoint"
    config.input.order = "identities"
    config.input.images_per_identity = 4
    config.augment.views = {"hr": common.view(weight=0.0), "lr": common.view(24, 32, 48, weight=1.0)}
    of = ("student.lr.feature", "teacher.hr.feature")
    config.terms = {
        "triplet": common.term("coupled_triplet", *of, weight=1.0, margin=0.2),
        "transfer": common.term("squared_distance", *of, weight=1.0),
    }
    config.teacher = common.teacher(config.init_from, compatible_from=112)
    config.optimizer.frozen = ("classifier",)
    return config
