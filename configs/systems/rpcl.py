"""RPCL on CosFace, ArcFace and MagFace (Li, Tu, Xu 2022): the nearest other center is pushed away as well (Table 2).

Command (the first trains, the second fine-tunes on TinyFace's training part, see configs/finetune_tinyface.py):
  python -m lrfr_jax.main --config configs/systems/rpcl.py:head=rpcl_cosface --workdir runs/rpcl_cosface --data_dir DIR
  python -m lrfr_jax.main --config configs/systems/rpcl.py:head=rpcl_cosface,stage=tinyface --workdir W --data_dir DIR
Arguments: head=rpcl_cosface|rpcl_arcface|rpcl_magface|rpcl_cosface_released|rpcl_arcface_released (with its faults),
stage=casia|tinyface, batch_size (0: as published). `--config.head.rival_share=0.0` is the head without the rival.
Hardware: not told.
Published: TinyFace rank-1, 10, 20 (one embedding, Euclidean): RPCL-Cos .32 .41 .44, Arc .35 .45 .48, Mag .34 .45 .49;
  CosFace .29 .39 .42, ArcFace .26 .34 .37, MagFace .33 .44 .47. LFW at 16 px, accuracy: RPCL-Cos 95.13, Arc 94.70, Mag
  95.12; CosFace 93.80, ArcFace 92.30, MagFace 94.97. Table 2 has its Cos rows and calls them Res34: they are ResNet18.
Source: CMACH508/RPCL_LowResolutionFaceRecognition, code read and run, its tables read as images. As released, Cos and
Arc ease the rival instead of pushing it; the heads without `released` carry its MagFace's rule over to them (ours).
Ours: 112 px in color and bicubic enlargement (there gray, 120 px, enlarged by VDSR; neither exists here), an IResNet18
for Cos and Arc (there with squeeze and excitation), a constant rate on CASIA, where no milestone is told, and 60
epochs on TinyFace (there up to 300).
"""

import math

from ml_collections import ConfigDict

from configs import common, systems

CASIA_IMAGES = 490_623
# MagFace's, and that of the others: batch, rate, epochs, decay, nesterov
OF_MAGFACE, OF_OTHERS = (80, 0.01, 25.0, 1e-5, False), (100, 0.01, 3.0, 5e-4, True)


def get_config(arg=None):
    args = common.parse_arg(arg, head="rpcl_cosface", stage="casia", batch_size=0)
    if args.stage not in ("casia", "tinyface"):
        raise ValueError(f"stage={args.stage} is unknown: choose casia or tinyface")
    batch_size, rate, epochs, decay, nesterov = OF_MAGFACE if args.head == "rpcl_magface" else OF_OTHERS
    last_step = math.ceil(epochs * CASIA_IMAGES / batch_size)
    on_tinyface = args.stage == "tinyface"
    if on_tinyface:
        batch_size, rate, epochs, decay, nesterov = 80, 0.1, 60.0, 1e-5, False
    config = systems.without_twins(
        args.head, dataset="casia", backbone="iresnet18", batch_size=args.batch_size or batch_size
    )
    config.num_epochs = epochs
    config.augment.views = {"lr": common.view(16, weight=1.0)}
    config.optimizer.update({"learning_rate": rate, "weight_decay": decay, "nesterov": nesterov})
    config.optimizer.schedule, config.optimizer.milestone_epochs, config.optimizer.decay_factor = "constant", (), 1.0
    config.evals = ConfigDict({"lfw": common.verification(resolutions=(16,))})
    config.evals.lfw.fusion = "none"
    if on_tinyface:
        config.input.dataset = "tinyface_train"
        config.init_from = f"runs/{args.head}/checkpoints/{last_step}"
        config.augment.views = {"hr": common.POLICIES["none"]["hr"]}  # its faces are small as they are
        config.optimizer.schedule = "steps"
        config.optimizer.milestone_epochs, config.optimizer.decay_factor = (10.0,), 0.1
        config.evals = ConfigDict({"tinyface": {"protocol": "tinyface", "resolutions": (), "fusion": "none"}})
    return config
