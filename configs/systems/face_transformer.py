"""Face Transformer (Zhong and Deng 2021): a plain vision transformer, of overlapping patches or not (Table 3).

Commands (the second and third run go on from the one before, with a fresh head's class centers and optimizer):
  python -m lrfr_jax.main --config configs/systems/face_transformer.py --workdir W1 --data_dir DIR
  python -m lrfr_jax.main --config configs/systems/face_transformer.py:stage=2 --config.init_from=W1/checkpoints/STEP
    --workdir W2 --data_dir DIR
  and stage=3 from W2.
Arguments: patches=p12s8|p8s8, stage=1|2|3 (learning rate 3e-4, 1e-4, 5e-5), dataset, batch_size.
Hardware: not told.
Published: LFW 99.73 to 99.80, CALFW 95.9, CPLFW 92.7, CFP-FP 96.3, AgeDB-30 97.80 (the released log of P12S8, MS1M of
  RetinaFace, 93,431 identities); XQLFW 87.90 (its site). Their weights: `lrfr_jax.pretrained`.
Source: zhongyy/Face-Transformer, its code read: raw pixels 0..255, CosFace of scale 64 and margin 0.35, batch 480,
mirrored faces, AdamW (0.9, 0.999), decay 0.05 of all matrices. Its cosine over 125 epochs is a constant rate over the
few epochs that were run (the released weights are of epoch 2); features of a face and its mirror image are added up.
Ours: three epochs a stage; their later runs keep the class centers, here `init_from` takes the backbone alone, and the
centers start as mean embeddings; warm-up from 0 (there: 1e-6).
"""

from configs import common, systems

RATES = {1: 3e-4, 2: 1e-4, 3: 5e-5}


def get_config(arg=None):
    args = common.parse_arg(arg, patches="p12s8", stage=1, dataset="ms1m", batch_size=480)
    if args.patches not in ("p12s8", "p8s8") or args.stage not in RATES:
        raise ValueError(f"patches={args.patches},stage={args.stage}: choose p12s8 or p8s8, and 1, 2 or 3")
    backbone = f"vit_{args.patches}"
    config = systems.without_twins("cosface", dataset=args.dataset, backbone=backbone, batch_size=args.batch_size)
    config.num_epochs = 3.0
    config.model.dropout = 0.1
    config.model.input = common.raw_input()
    config.head.scale, config.head.margin = 64.0, 0.35
    common.use_adamw(config, learning_rate=RATES[args.stage], weight_decay=0.05)
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 1.0 if args.stage == 1 else 0.0
    config.class_centers = "random" if args.stage == 1 else "mean_embedding"
    config.init_from = "" if args.stage == 1 else f"runs/{backbone}_{args.stage - 1}"
    config.evals.lfw.fusion = "sum"
    return config
