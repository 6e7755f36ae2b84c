"""F-SKD (Shin et al. 2023): a student of small faces learns a teacher's maps, their relations and its logits.

Command (the first makes the teacher):
  python -m lrfr_jax.main --config configs/systems/fskd.py:stage=teacher --workdir runs/fskd_teacher --data_dir DIR
  python -m lrfr_jax.main --config configs/systems/fskd.py --workdir W --data_dir DIR
The teacher is `--config.teacher.checkpoint=T`, by default the last checkpoint of the first command; its classifier must
be of the same identities.
Arguments: stage=student|teacher, backbone, batch_size.
Hardware: not told.
Published: no number that could be read; no row of the paper's tables.
Source: gist-ailab/feature-similarity-KD, code and its casia.sh read: weights, margins (0.2 for the student, 0.4 for the
teacher), sizes of 14, 28, 56 and 112 px, OpenCV's kernels. The student's maps pass a 1x1 convolution each, which is of
no use after training.
Ours: two images of each identity side by side, of which each is the other's partner in the relation (there one drawn
from a list of all images of the identity), 24 epochs of identities in turn, dropout 0.4 of single numbers, and the
initial class centers.
"""

from ml_collections import ConfigDict

from configs import casia_r34, common

LAST_STEP = 45_996  # of the teacher: 24 epochs of 490,623 images, by 256
IMAGES_PER_IDENTITY = 2
CHANNELS = (64, 128, 256, 512)  # of the teacher's stages


def get_config(arg=None):
    args = common.parse_arg(arg, stage="student", backbone="iresnet50", batch_size=256)
    if args.stage not in ("student", "teacher"):
        raise ValueError(f"stage={args.stage} is unknown: choose student or teacher")
    policy = "none" if args.stage == "teacher" else "fskd"
    config = casia_r34.get_config(f"policy={policy},batch_size={args.batch_size},head=cosface")
    config.num_epochs = 24.0
    config.model.backbone = args.backbone
    config.head.update({"scale": 32.0, "margin": 0.4 if args.stage == "teacher" else 0.2})
    config.optimizer.nesterov = True
    config.optimizer.milestone_epochs = (10.0, 14.0, 18.0, 22.0)
    if args.stage == "teacher":
        return config
    config.input.order = "identities"
    config.input.images_per_identity = IMAGES_PER_IDENTITY
    stages = range(1, len(CHANNELS) + 1)
    config.parts = ConfigDict(
        {f"hint{n}": {"part": "hint", "of": f"stage{n}", "channels": (CHANNELS[n - 1],)} for n in stages}
    )
    of_stages = tuple(name for n in stages for name in (f"student.lr.hint{n}", f"teacher.hr.stage{n}"))
    last = ("student.lr.hint4", "teacher.hr.stage4", "teacher.hr.feature")
    config.terms = {
        "maps": common.term("cosine", *of_stages, weight=20.0, over="mean"),
        "relation": common.term("cross_relation", *last, weight=4.0, images_per_identity=IMAGES_PER_IDENTITY),
        "logits": common.term("hkd", "student.lr.logits", "teacher.hr.logits", weight=1.0, temperature=4.0),
    }
    config.teacher = common.teacher(f"runs/fskd_teacher/checkpoints/{LAST_STEP}")
    return config
