"""A low-resolution model whose embeddings fit a gallery that exists: high-resolution faces stay with the teacher.

Command (docs/finetuning.md, section 5, has the whole way):
  python -m lrfr_jax.main --config configs/compatible.py:dataset=NAME --workdir W --data_dir DIR --config.init_from=T
Then `python -m lrfr_jax.evaluate --checkpoint W/checkpoints/<step> --gallery_checkpoint T ...` reads faces of 112 px
with T, and smaller ones with the student.
Arguments: dataset, backbone, embedding_size, batch_size, num_epochs.
configs/finetune.py without large faces: the student starts as the teacher, is pulled to the teacher's
embedding of the same face as it was, and to its identity's mean embedding by the teacher, which stays where it is. The
teacher's embeddings of both orientations are made once and kept beside the set (`teacher.cache`).
Hardware: any; a step costs one view. Data: your own, or a set of docs/data.md under its license.
"""

from configs import common, finetune


def get_config(arg=None):
    args = common.parse_arg(
        arg, dataset="casia", backbone="iresnet50", embedding_size=512, batch_size=64, num_epochs=10.0
    )
    config = finetune.get_config(",".join(f"{key}={value}" for key, value in args.items()))
    config.augment.views.lr.share = 1.0  # the teacher reads the large faces
    config.terms.lr_to_start.weight = 30.0  # what docs/results.md measured; 100 was no better
    config.teacher.compatible_from = 112
    config.evals = {}  # a run's own evaluation knows one network; `evaluate` with --gallery_checkpoint knows both
    return config
