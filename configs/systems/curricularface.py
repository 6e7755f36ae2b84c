"""CurricularFace on cleaned MS1M (Huang et al. 2020): hard negatives weigh less at first, more as training succeeds.

Command:
  python -m lrfr_jax.main --config configs/systems/curricularface.py --workdir W --data_dir DIR
Arguments: backbone, batch_size.
Hardware: not told.
Published: LFW 99.80, CFP-FP 98.36, 10 folds; IJB-B 94.86, IJB-C 96.15, TAR at 1e-4. No row of the paper's tables.
Source: HuangYG123/CurricularFace, its code read and run.
Ours: parameters of one dimension do not decay, PReLU's too (there: none of BatchNorm's).
"""

from configs import common, systems


def get_config(arg=None):
    args = common.parse_arg(arg, backbone="iresnet100", batch_size=512)
    config = systems.without_twins("curricularface", dataset="ms1m", backbone=args.backbone, batch_size=args.batch_size)
    config.num_epochs = 24.0
    config.optimizer.milestone_epochs = (10.0, 18.0, 22.0)
    config.optimizer.weight_decay_on = "no_norm_bias"
    return config
