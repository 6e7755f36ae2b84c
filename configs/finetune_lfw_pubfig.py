"""A pretrained MobileFaceNet, fine-tuned on real faces to recognize low-resolution ones too.

Command (docs/finetuning.md imports the weights, docs/results.md prepares the data and holds the results):
  python -m lrfr_jax.main --config configs/finetune_lfw_pubfig.py:policy=maug --workdir W --data_dir DIR
Arguments: policy=none|aug|maug|paug|single7|single28|bt_m|st_m1|st_m2, batch_size,
  num_steps (120, the length of a row of the study).
Hardware: 2 CPU cores, 20 to 25 pairs/s: 6 minutes for 120 steps, after 1 minute in which the training set is embedded.
Data: LFW (research use) and PubFig (non-commercial research), 11,897 images of 1,400 identities.
"""

from configs import common, finetune

NUM_IMAGES = 11_897  # of the set lfw_pubfig_finetune: turns steps into epochs


def get_config(arg=None):
    args = common.parse_arg(arg, policy="maug", batch_size=64, num_steps=120)
    epochs_per_step = args.batch_size / NUM_IMAGES
    network = "backbone=mobilefacenet,embedding_size=128"
    size = f"batch_size={args.batch_size},num_epochs={args.num_steps * epochs_per_step}"
    config = finetune.get_config(f"dataset=lfw_pubfig_finetune,policy={args.policy},{network},{size}")
    config.checkpoint_every_steps = 100
    config.keep_checkpoints = 1
    config.init_from = "pretrained/y1"
    config.input.num_threads = 4
    config.input.prefetch_images = 512
    config.model.input.scale = 128.0  # as the y1 weights were trained
    config.optimizer.warmup_epochs = 30 * epochs_per_step
    pairs, search = common.verification(), {"protocol": "gallery", "resolutions": (56, 28, 20, 14, 10, 7)}
    config.eval_batch_size = 8  # on a CPU, batches that stay in its caches are embedded a third faster than 64
    config.evals = {"lfw_folds_9_10": pairs, "lfw_gallery_9_10": search}
    for name in config.evals:
        config.evals[name].fusion = "none"  # as the published weights were measured
    return config
