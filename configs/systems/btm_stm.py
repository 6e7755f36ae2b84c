"""BT-M, ST-M1 and ST-M2 (Knoche, Hoermann, Rigoll 2021 and 2022): several resolutions in a batch (Table 3).

Command:
  python -m lrfr_jax.main --config configs/systems/btm_stm.py:policy=st_m1 --workdir W --data_dir DIR
Arguments: policy=bt_m|st_m1|st_m2, batch_size.
Hardware: not told.
Published (the XQLFW site's protocol: 10 folds, one embedding, cosine), LFW and XQLFW: BT-M 99.30, 83.60; ST-M1 97.30,
  90.97; ST-M2 95.87, 90.82.
Source: the abstracts, the trainer that they started from (peteryuX/arcface-tf2, read) and one line of a third party:
the low-resolution half of BT-M's batch shows other images. Rates from memory.
Ours: what ST-M2 is (both views drawn of 7, 14, 28, 56 and 112 px: the texts do not tell it from ST-M1, of which it may
as well be one with a larger `--config.loss.distance_weight`), the weight 1 of the cosine distance and the halves of
the classification, a constant rate, random weights (there ImageNet's), no random crop, no change of saturation
and brightness, no BatchNorm or linear layer beyond the network's own.
"""

from configs import common, ms1m_r50


def get_config(arg=None):
    args = common.parse_arg(arg, policy="bt_m", batch_size=128)
    config = ms1m_r50.get_config(f"policy={args.policy},batch_size={args.batch_size}")
    config.num_epochs = 5.0
    config.model.dropout = 0.5
    config.model.input.update({"mean": 0.0, "scale": 255.0})
    config.head = common.head("arcface")
    config.head.guard = "fallback"
    config.loss.update({"distance": "cosine", "p": 2.0})  # weight: 1 with two views, 0 with one
    config.optimizer.schedule, config.optimizer.milestone_epochs, config.optimizer.decay_factor = "constant", (), 1.0
    config.optimizer.nesterov = True
    config.evals.lfw.fusion = "none"
    return config
