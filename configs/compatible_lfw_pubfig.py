"""A MobileFaceNet for small faces whose embeddings fit those of the pretrained one, on real faces.

Command (docs/finetuning.md imports the weights, docs/results.md prepares the data and holds the results):
  python -m lrfr_jax.main --config configs/compatible_lfw_pubfig.py --workdir W --data_dir DIR
Arguments: batch_size, num_steps.
Hardware: 2 CPU cores.
Data: LFW (research use) and PubFig (non-commercial research), 15,398 images of 4,901 identities.
"""

from configs import common, compatible

NUM_IMAGES = 15_398  # of the set lfw_pubfig_all: turns steps into epochs


def get_config(arg=None):
    args = common.parse_arg(arg, batch_size=64, num_steps=1500)
    epochs_per_step = args.batch_size / NUM_IMAGES
    network = "backbone=mobilefacenet,embedding_size=128"
    size = f"batch_size={args.batch_size},num_epochs={args.num_steps * epochs_per_step}"
    config = compatible.get_config(f"dataset=lfw_pubfig_all,{network},{size}")
    config.init_from = "pretrained/y1"
    config.input.num_threads = 4
    config.input.prefetch_images = 512
    config.model.input.scale = 128.0  # as the y1 weights were trained
    config.optimizer.warmup_epochs = 60 * epochs_per_step
    config.eval_batch_size = 8  # on a CPU, batches that stay in its caches are embedded a third faster than 64
    return config
