"""Any pretrained backbone, fine-tuned on a set of its user to recognize low-resolution faces too.

Command (docs/finetuning.md has the whole way, from an arcface_torch `backbone.pth` on):
  python -m lrfr_jax.main --config configs/finetune.py:dataset=casia --workdir W --data_dir DIR
The weights are those of `--config.init_from=DIR`, by default pretrained/arcface_r50.
Arguments: dataset, backbone, embedding_size, batch_size, num_epochs, head (of configs/common.py),
  policy=faithful|none|aug|maug|paug|single7|single28|bt_m|st_m1|st_m2.
faithful keeps most of what the weights knew of other people (docs/results.md): one view a face, small or as it was, is
pulled to what the weights see in the face as it was. The other policies learn as from random weights, by SGD;
configs/finetune_lfw_pubfig.py studies them.
Hardware: any; a smaller batch_size fits smaller memory. Data: your own, or a set of docs/data.md under its license.
"""

from configs import casia_r34, common


def get_config(arg=None):
    args = common.parse_arg(
        arg,
        dataset="casia",
        backbone="iresnet50",
        embedding_size=512,
        policy="faithful",
        batch_size=64,
        num_epochs=2.0,
        head="cosface",
    )
    config = casia_r34.get_config(f"policy={args.policy},batch_size={args.batch_size},head={args.head}")
    config.num_epochs = args.num_epochs
    config.log_every_steps = 10
    config.checkpoint_every_steps = 500
    config.eval_every_steps = 0  # at the end only
    config.batch_parts = 1  # more: the batch goes through the network in turns, in less memory
    config.remat = "none"
    config.keep_checkpoints = 2
    config.init_from = "pretrained/arcface_r50"
    config.class_centers = "mean_embedding"
    config.classifier = common.classifier()

    config.input.dataset = args.dataset
    config.model.backbone = args.backbone
    config.model.embedding_size = args.embedding_size
    config.model.dropout = 0.0
    config.model.batch_norm = "frozen"  # small batches of other faces would spoil statistics that millions made
    config.optimizer.schedule = "cosine"
    config.optimizer.learning_rate = 0.02
    config.optimizer.warmup_epochs = 0.1
    config.optimizer.milestone_epochs = ()
    config.optimizer.decay_factor = 1.0
    config.optimizer.clip_norm = 20.0
    config.eval_batch_size = 64
    if args.policy == "faithful":
        common.use_faithful(config)
    return config
