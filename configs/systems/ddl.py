"""DDL (Huang et al. 2020): hard images are to have the similarities of easy ones, beside ArcFace (Table 1).

Command (configs/finetune_scface.py prepares the data, docs/finetuning.md imports the weights):
  python -m lrfr_jax.main --config configs/systems/ddl.py --workdir W --data_dir DIR
The weights are those of `--config.init_from=DIR`, by default pretrained/arcface_r50.
Arguments: backbone, embedding_size, policy (of two views), negatives=released|hardest, batch_size, num_epochs.
Hardware: not told.
Published (SCface after fine-tuning, ResNet50): d1 86.8, d2 98.3, d3 98.3.
Source: Tencent/TFace, recognition/torchkit/loss/ddl.py, read and run: the loss and its weights. No trainer is released.
Ours: the batches. Here the same 32 identities x 2 images are classified by ArcFace and compared: the full view is the
easy group and the reduced one the hard group, pairs are an identity's two images, negatives the first image of each.
(As published, an ordinary batch beside 32 pairs and 32 single images of each group, which on SCface are distances.)
The recipe is that of configs/finetune_scface.py.
"""

from configs import common, finetune_scface

IMAGES_PER_IDENTITY = 2


def get_config(arg=None):
    args = common.parse_arg(
        arg,
        backbone="iresnet50",
        embedding_size=512,
        policy="maug",
        negatives="released",
        batch_size=64,
        num_epochs=20.0,
    )
    passed = ",".join(f"{key}={value}" for key, value in args.items() if key != "negatives")
    config = finetune_scface.get_config(f"head=arcface,{passed}")
    config.init_from = "pretrained/arcface_r50"
    config.input.order = "identities"
    config.input.images_per_identity = IMAGES_PER_IDENTITY
    config.loss.distance_weight = 0.0
    numbers = {"images_per_identity": IMAGES_PER_IDENTITY, "bandwidth": 0.1, "num_bins": 1000}
    numbers |= {"positive_weight": 0.1, "negative_weight": 0.02, "order_weight": 0.5, "negatives": args.negatives}
    groups = (f"student.{view}.feature" for view in sorted(config.augment.views))
    config.terms = {"ddl": common.term("ddl", *groups, weight=1.0, **numbers)}
    return config
