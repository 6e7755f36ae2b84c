"""The longer fine-tuning of MobileFaceNet on real faces: all identities, 10 px among the sizes, 3,000 steps.

Command (docs/results.md prepares the data and holds the results):
  python -m lrfr_jax.main --config configs/finetune_lfw_pubfig_long.py --workdir W --data_dir DIR
Arguments: batch_size, num_steps.
Hardware: one GPU: 3 minutes on half an H200, 2 of them steps; by their rate 2 CPU cores take some two hours.
Data: LFW (research use) and PubFig (non-commercial research), 15,398 images of 4,901 identities.
Chosen on pairs of folds 7 and 8 of LFW, docs/results.md tells against what.
"""

from configs import common, finetune_lfw_pubfig

NUM_IMAGES = 15_398  # of the set lfw_pubfig_all: turns steps into epochs


def get_config(arg=None):
    args = common.parse_arg(arg, batch_size=64, num_steps=3000)
    epochs_per_step = args.batch_size / NUM_IMAGES
    config = finetune_lfw_pubfig.get_config(f"policy=maug,batch_size={args.batch_size}")
    config.num_epochs = args.num_steps * epochs_per_step
    config.checkpoint_every_steps = 500
    config.input.dataset = "lfw_pubfig_all"
    config.augment.views.lr.sizes = (7, 10, 14, 20)
    config.augment.views.lr.ratios = (1.0, 1.0, 1.0, 1.0)
    config.loss.weight_unit = "gradient_share"
    config.loss.distance_weight = 0.25
    config.optimizer.warmup_epochs = 60 * epochs_per_step
    config.optimizer.frozen = ("classifier",)  # the centers stay at the identities' mean embeddings
    return config
