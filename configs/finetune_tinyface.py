"""Fine-tuning on TinyFace's training part: 7,804 images of 2,570 identities (Ling et al. 2022, Table 2).

Command:
  python -m lrfr_jax.prepare tinyface --source S --name tinyface --resize --data_dir DIR
  python -m lrfr_jax.prepare tinyface --source S --name tinyface_train --resize --part training --data_dir DIR
  python -m lrfr_jax.main --config configs/finetune_tinyface.py --workdir W --data_dir DIR
The weights are those of `--config.init_from=DIR`, by default the last checkpoint of the CASIA recipe.
Arguments: backbone, embedding_size, policy, batch_size, num_epochs, head. The paper gives no recipe: the numbers are
ours and have not met the real set.
Hardware: any; minutes on a GPU. Expected (paper, ResNet34): rank-1 0.39, rank-5 0.46, rank-10 0.50, rank-20 0.54.
Data: non-commercial research.
"""

from ml_collections import ConfigDict

from configs import common, finetune


def get_config(arg=None):
    args = common.parse_arg(
        arg,
        backbone="resnet34",
        embedding_size=512,
        policy="maug",
        batch_size=64,
        num_epochs=8.0,
        head="cosface",
    )
    passed = ",".join(f"{key}={value}" for key, value in args.items())
    config = finetune.get_config(f"dataset=tinyface_train,{passed}")
    config.init_from = "runs/maug/checkpoints/53662"  # README's CASIA run: 28 epochs of all 490,623 images
    config.optimizer.learning_rate *= 0.5
    config.optimizer.warmup_epochs = 1.0
    config.evals = ConfigDict({"tinyface": {"protocol": "tinyface", "resolutions": ()}})
    return config
