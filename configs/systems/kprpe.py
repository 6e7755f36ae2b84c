"""KP-RPE (Kim et al. 2024): a vision transformer whose attention knows where the parts of the face are.

Command:
  python -m lrfr_jax.main --config configs/systems/kprpe.py --workdir W --data_dir DIR
Arguments: size=small|base, recipe=adamw|sgd, dataset, batch_size.
Hardware: not told.
Published (CVLface's table): WebFace4M, base: IJB-C TAR at 1e-4 97.13, TinyFace rank-1 and rank-5 75.75, 78.49;
  WebFace12M: 97.82, 76.10, 78.92. Their weights: `lrfr_jax.pretrained`. No row of the paper's tables.
Source: mk-minchul/CVLface, its code read. Its recipes disagree, and which made the published numbers is not said: the
example script has SGD (recipe=sgd: rate 0.1 divided by 10 at 12, 20 and 24 of 26 epochs, decay 5e-4, 1 warm-up epoch,
gradients clipped at 5), configs have AdamW (recipe=adamw: rate 1e-4, cosine, 3 warm-up epochs, decay 0.3 or 0.05, 34 to
40 epochs). Head: AdaFace of margin 0.4, as CVLface computes it.
Ours: keypoints are the template's of aligned faces (there: found in each image by a network); AdaFace's degradations in
place of the strong affine and photometric augmentation; statistics of the lengths over the global batch.
"""

from configs import common, systems


def get_config(arg=None):
    args = common.parse_arg(arg, size="base", recipe="adamw", dataset="ms1m", batch_size=1792)
    if args.size not in ("small", "base") or args.recipe not in ("adamw", "sgd"):
        raise ValueError(f"size={args.size},recipe={args.recipe}: choose small or base, and adamw or sgd")
    backbone = f"vit_kprpe_{args.size}"
    config = systems.without_twins("adaface", dataset=args.dataset, backbone=backbone, batch_size=args.batch_size)
    config.model.dropout = 0.0
    config.head.gradient = "straight_through"
    for name in ("crop", "low_resolution", "light"):
        config.augment[name].probability = 0.2
    config.optimizer.clip_norm = 5.0
    config.optimizer.weight_decay_on = "no_norm_bias"
    if args.recipe == "adamw":
        config.num_epochs = 34.0
        common.use_adamw(config, learning_rate=1e-4, weight_decay=0.3)
        config.optimizer.schedule = "cosine"
        config.optimizer.warmup_epochs = 3.0
    else:
        config.num_epochs = 26.0
        config.optimizer.milestone_epochs = (12.0, 20.0, 24.0)
        config.optimizer.warmup_epochs = 1.0
    config.evals.lfw.fusion = "sum"
    return config
