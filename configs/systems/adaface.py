"""AdaFace (Kim et al. 2022): the feature's length decides how the margin acts, and faces are degraded in three ways.

Command:
  python -m lrfr_jax.main --config configs/systems/adaface.py --workdir W --data_dir DIR
Arguments: dataset=ms1m|casia, backbone, batch_size, gradient=exact|straight_through (that of CVLface).
Hardware: not told.
Published (CVLface's table; TinyFace rank-1 and rank-5 without fine-tuning, IJB-C TAR at 1e-4): ResNet100 MS1M LFW
  99.80, IJB-C 96.81, TinyFace 68.11, 71.49; ResNet50 MS1M IJB-C 96.20, TinyFace 64.99, 68.88; ResNet50 CASIA LFW
  99.37, TinyFace 59.44, 64.14. No row of the paper's tables.
Source: mk-minchul/AdaFace and CVLface, their code read and run. The decay is 5e-4: the option's 1e-4 is never read.
Ours: statistics of the lengths over the global batch (there: of each GPU), and parameters of one dimension do not
decay, PReLU's too (there: none of BatchNorm's).
"""

from configs import common, systems


def get_config(arg=None):
    args = common.parse_arg(arg, dataset="ms1m", backbone="iresnet50", batch_size=512, gradient="exact")
    config = systems.without_twins("adaface", dataset=args.dataset, backbone=args.backbone, batch_size=args.batch_size)
    config.num_epochs = 26.0
    config.augment.crop.probability = 0.2
    config.augment.low_resolution.probability = 0.2
    config.augment.light.probability = 0.2
    config.model.input.order = "bgr"
    config.head.gradient = args.gradient
    config.optimizer.milestone_epochs = (12.0, 20.0, 24.0)
    config.optimizer.weight_decay_on = "no_norm_bias"
    config.evals.lfw.fusion = "sum"  # of raw features: a sharp mirror image weighs more
    return config
