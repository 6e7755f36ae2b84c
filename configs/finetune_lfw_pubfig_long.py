"""The longer fine-tuning of MobileFaceNet on real faces: all identities, 1,500 steps, by the recipe of finetune.py.

Command (docs/results.md prepares the data and holds the results):
  python -m lrfr_jax.main --config configs/finetune_lfw_pubfig_long.py --workdir W --data_dir DIR
Arguments: batch_size, num_steps.
Hardware: a CPU core, 75 minutes.
Data: LFW (research use) and PubFig (non-commercial research), 15,398 images of 4,901 identities.
The recipe was chosen on people of PubFig that are in no test here, docs/results.md tells against what.
"""

from configs import common, finetune_lfw_pubfig

NUM_IMAGES = 15_398  # of the set lfw_pubfig_all: turns steps into epochs


def get_config(arg=None):
    args = common.parse_arg(arg, batch_size=64, num_steps=1500)
    epochs_per_step = args.batch_size / NUM_IMAGES
    config = finetune_lfw_pubfig.get_config(f"policy=faithful,batch_size={args.batch_size}")
    config.num_epochs = args.num_steps * epochs_per_step
    config.checkpoint_every_steps = 500
    config.input.dataset = "lfw_pubfig_all"
    config.optimizer.warmup_epochs = 60 * epochs_per_step
    return config
