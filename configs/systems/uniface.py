"""UniFace (Zhou et al. 2023): one threshold for all pairs of face and center, in place of a softmax over each row.

Command:
  python -m lrfr_jax.main --config configs/systems/uniface.py --workdir W --data_dir DIR
Arguments: backbone, batch_size.
Hardware: not told.
Published (CASIA): LFW 99.56, 10 folds; IJB-C TAR at 1e-4 88.65. No row of the paper's tables.
Source: CVI-SZU/UniFace, its code read and run.
Ours: the length of the warm-up, one epoch; exponents are not limited to +-64 (that cuts off the gradient of the worst
faces only).
"""

from configs import common, systems


def get_config(arg=None):
    args = common.parse_arg(arg, backbone="iresnet50", batch_size=512)
    config = systems.without_twins("uniface", dataset="casia", backbone=args.backbone, batch_size=args.batch_size)
    config.num_epochs = 28.0
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.milestone_epochs = (16.0, 24.0)
    config.optimizer.clip_norm = 10.0
    return config
