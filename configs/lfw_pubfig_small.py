"""Real faces from scratch on a CPU: LFW and PubFig without the identities of LFW folds 9-10, tested on those two folds.

Command (docs/results.md holds the prepare commands and the results):
  python -m lrfr_jax.main --config configs/lfw_pubfig_small.py:policy=maug --workdir W --data_dir DIR
Arguments: policy=none|aug|maug|paug|single7|single28|bt_m|st_m1|st_m2, batch_size, num_epochs.
Hardware: 2 CPU cores; the runs of docs/results.md, of 8 epochs, took 32 (policy=none) and 59 minutes of CPU time.
Data: LFW (research use) and PubFig (non-commercial research), 112x112: too few images for more than a modest result.
"""

from configs import common, quickstart


def get_config(arg=None):
    args = common.parse_arg(arg, policy="maug", batch_size=64, num_epochs=5.0)
    config = quickstart.get_config(f"policy={args.policy},batch_size={args.batch_size},num_epochs={args.num_epochs}")
    config.log_every_steps = 50
    config.checkpoint_every_steps = 250
    config.input.dataset = "lfw_pubfig"
    config.head.scale = 32.0  # more identities than in the quick start
    config.model.embedding_size = 256
    config.optimizer.learning_rate = 0.1  # as the runs of docs/results.md had it
    del config.evals.generated_test
    config.evals.lfw_folds_9_10 = common.verification()
    return config
