"""A-SKD (Shin et al. 2022): a student of small faces learns where a teacher of large ones looks.

Command (the first makes the teacher):
  python -m lrfr_jax.main --config configs/systems/askd.py:stage=teacher --workdir runs/askd_teacher --data_dir DIR
  python -m lrfr_jax.main --config configs/systems/askd.py:size=28 --workdir W --data_dir DIR
The teacher is `--config.teacher.checkpoint=T`, by default the last checkpoint of the first command.
Arguments: stage=student|teacher, size=56|28|14 (one student each), backbone, batch_size.
Hardware: not told.
Published: no number that could be read; no row of the paper's tables.
Source: gist-ailab/teaching-where-to-look, code read (arXiv 2209.14498): the maps of channels and of places of all 24
blocks before their sigmoid; nearest pixels down and up and a blur that, as released, is vertical alone.
Ours: which version of PyTorch its milestones are of (before 1.1 they come an epoch later), dropout 0.4 of single
numbers, and the initial class centers.
"""

from configs import casia_r34, common

LAST_STEP = 76_660  # of the teacher: 20 epochs of 490,623 images, by 128


def get_config(arg=None):
    args = common.parse_arg(arg, stage="student", size=28, backbone="cbam_iresnet50", batch_size=128)
    if args.stage not in ("student", "teacher"):
        raise ValueError(f"stage={args.stage} is unknown: choose student or teacher")
    policy = "none" if args.stage == "teacher" else f"askd{args.size}"
    config = casia_r34.get_config(f"policy={policy},batch_size={args.batch_size},head=arcface")
    config.num_epochs = 20.0
    config.model.backbone = args.backbone
    config.head.update({"scale": 32.0, "guard": "fallback"})
    config.optimizer.nesterov = True
    config.optimizer.milestone_epochs = (6.0, 11.0, 15.0, 17.0)
    if args.stage == "teacher":
        return config
    maps = "student.lr.attention", "teacher.hr.attention"
    config.terms = {"attention": common.term("cosine", *maps, weight=5.0, over="sum")}
    config.teacher = common.teacher(f"runs/askd_teacher/checkpoints/{LAST_STEP}")
    config.evals.lfw.resolutions = (args.size,)
    return config
