"""Octuplet loss (Knoche et al. 2023): a trained network, fine-tuned by triplets of both resolutions.

Command (docs/finetuning.md imports the weights; without a classifier, so any set with two images a person will do):
  python -m lrfr_jax.main --config configs/systems/octuplet.py --workdir W --data_dir DIR
The weights are those of `--config.init_from=DIR`, by default pretrained/arcface_r50.
Arguments: dataset, backbone, embedding_size, metric=euclidean|euclidean_squared|cosine, batch_size, num_epochs.
`--config.terms.octuplet.margin` is in the metric's unit: of raw features, whose length is a property of the weights.
Hardware: not told.
Published (the XQLFW site's protocol: 10 folds, one embedding, cosine), LFW and XQLFW: from ArcFace 99.55, 93.27; from
  MagFace 99.63, 92.92; from Face Transformer 99.73, 95.12.
Source: Martlgap/octuplet-loss, code read and run: its default is euclidean with the margin 0.5, its own check has
squared distances with 500. What the paper trained with was not found.
Ours: the margin 25, 32 identities x 4 images, the sizes 7, 14, 28 and 56 px, the rate 0.001 with a cosine, the length,
and BatchNorm's statistics as they are.
"""

from ml_collections import ConfigDict

from configs import common, finetune


def get_config(arg=None):
    args = common.parse_arg(
        arg,
        dataset="casia",
        backbone="iresnet50",
        embedding_size=512,
        metric="euclidean",
        batch_size=128,
        num_epochs=2.0,
    )
    passed = ",".join(f"{key}={value}" for key, value in args.items() if key != "metric")
    config = finetune.get_config(f"policy=paug,{passed}")
    config.class_centers = "random"
    config.head = ConfigDict({"name": "none"})
    config.input.order = "identities"
    config.input.images_per_identity = 4
    for view in config.augment.views:
        config.augment.views[view].weight = 0.0  # nothing is classified
    config.loss.distance_weight = 0.0
    views = "student.hr.feature", "student.lr.feature"
    config.terms = {"octuplet": common.term("octuplet", *views, weight=1.0, metric=args.metric, margin=25.0)}
    config.optimizer.learning_rate = 0.001
    config.evals.lfw.fusion = "none"
    return config
