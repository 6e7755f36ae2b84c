"""ElasticFace and ElasticFace+ (Boutros et al. 2022): a margin drawn anew for each face.

Command:
  python -m lrfr_jax.main --config configs/systems/elasticface.py:head=elastic_cosface --workdir W --data_dir DIR
Arguments: head=elastic_arcface|elastic_cosface, plus=none|intended|released (ElasticFace+: larger margins for faces
that are told apart already; the released code gives them out the other way round), backbone, batch_size.
Hardware: not told.
Published: XQLFW 81.87 (Arc), 83.78 (Cos), in QMagFace's paper, 10 folds. No row of the paper's tables.
Source: fdbtrs/ElasticFace, its code read and run.
Ours: with several views, one margin for each feature.
"""

from configs import common, systems

PLUS_SIGMA = {"elastic_arcface": 0.0175, "elastic_cosface": 0.02}


def get_config(arg=None):
    args = common.parse_arg(arg, head="elastic_arcface", plus="none", backbone="iresnet100", batch_size=512)
    config = systems.without_twins(args.head, dataset="ms1m", backbone=args.backbone, batch_size=args.batch_size)
    config.num_epochs = 26.0
    config.head.plus = args.plus
    if args.plus != "none":
        config.head.sigma = PLUS_SIGMA[args.head]
    config.optimizer.milestone_epochs = (8.0, 14.0, 20.0, 25.0)
    return config
