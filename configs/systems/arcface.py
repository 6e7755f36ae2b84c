"""ArcFace on cleaned MS1M (Deng et al. 2019; Table 3 "ArcFace(Res50)").

Command:
  python -m lrfr_jax.main --config configs/systems/arcface.py --workdir W --data_dir DIR
Arguments: backbone, batch_size, gradient=straight_through|exact.
Hardware of the source: eight GPUs, 128 images each.
Published: LFW 99.50, XQLFW 74.22 for a ResNet50 by the XQLFW site's protocol (10 folds, one embedding); 79.73 for the
same loss in QMagFace's paper. Whose weights the site measured is not told.
Source: arcface_torch, its code read; like it, the gradient passes the margin straight through.
Ours: half a cosine in place of the linear fall to 0, clipping over all parameters in place of the backbone's alone.
"""

from configs import common, systems


def get_config(arg=None):
    args = common.parse_arg(arg, backbone="iresnet50", batch_size=1024, gradient="straight_through")
    config = systems.without_twins("arcface", dataset="ms1m", backbone=args.backbone, batch_size=args.batch_size)
    config.num_epochs = 20.0
    config.head.gradient = args.gradient
    config.optimizer.schedule = "cosine"
    config.optimizer.milestone_epochs = ()
    config.optimizer.decay_factor = 1.0
    config.optimizer.clip_norm = 5.0
    config.evals.lfw.fusion = "none"
    return config
