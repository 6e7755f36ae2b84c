"""NPT-Loss (Khalid et al. 2022): a triplet loss against the nearest class centers (Table 1 "NPT-Loss(Res50)").

Command (the first trains, the second fine-tunes for Table 1, see configs/finetune_scface.py):
  python -m lrfr_jax.main --config configs/systems/npt.py:dataset=ms1m --workdir runs/npt --data_dir DIR
  python -m lrfr_jax.main --config configs/finetune_scface.py:head=npt,backbone=resnet50,policy=none --workdir W \\
    --config.init_from=runs/npt/checkpoints/238820 --config.model.input.scale=128.0 --data_dir DIR
Arguments: dataset=casia|ms1m, backbone=resnet50|mobilefacenet, head=npt|npt_released (a phantom center at cosine 0),
batch_size (0: as published, 64 for CASIA and 512 for MS1M).
Hardware: not told.
Published: CASIA ResNet50 LFW 99.40, AgeDB 95.38, CFP-FP 96.81, CALFW 93.46, 10 folds; SCface after fine-tuning d1 85.7,
  d2 99.1, d3 99.1, which the paper of Table 1 alone gives, and whose split and recipe are not told.
Source: cerebrai/npt-loss, code read and run, and the paper in it. Of ResNet50 the paper's decay 1e-4 (the code: 5e-4).
Ours: ReLU in ResNet50 (there PReLU); in MobileFaceNet nothing of one dimension decays (there PReLU's alone).
"""

from configs import common, systems

# dataset -> batch, epochs, milestones
RECIPES = {"casia": (64, 65.0, (30.0, 45.0)), "ms1m": (512, 21.0, (10.0, 18.0))}


def get_config(arg=None):
    args = common.parse_arg(arg, dataset="casia", backbone="resnet50", head="npt", batch_size=0)
    batch_size, num_epochs, milestones = RECIPES[args.dataset]
    config = systems.without_twins(
        args.head, dataset=args.dataset, backbone=args.backbone, batch_size=args.batch_size or batch_size
    )
    config.num_epochs = num_epochs
    config.model.input.scale = 128.0
    config.optimizer.milestone_epochs = milestones
    config.optimizer.weight_decay = 1e-4
    if args.backbone == "mobilefacenet":
        config.model.embedding_size = 256
        config.head.num_nearest = 6
        config.optimizer.nesterov = True
        config.optimizer.weight_decay = 1e-5
        config.optimizer.weight_decay_on = "no_norm_bias"
        config.optimizer.weight_decay_by_prefix = (("classifier", 5e-4), ("backbone/neck/linear", 1e-4))
    return config
