"""A low-resolution model whose embeddings fit a gallery that exists: high-resolution faces stay with the teacher.

Command (docs/finetuning.md, section 5, has the whole way):
  python -m lrfr_jax.main --config configs/compatible.py:dataset=NAME --workdir W --data_dir DIR \
    --config.teacher.checkpoint=T --config.init_from=T
Then `python -m lrfr_jax.evaluate --checkpoint W/checkpoints/<step> --gallery_checkpoint T ...` reads faces of 112 px
with T, and smaller ones with the student.
Arguments: dataset, backbone, embedding_size, batch_size, num_epochs.
The student starts as the teacher, sees low-resolution faces alone, and is pulled to the teacher's embedding of the same
face as it was, and to its identity's mean embedding by the teacher, which stays where it is. The teacher's embeddings
of both orientations are made once and kept beside the set (`teacher.cache`).
Hardware: any; a step costs one view. Data: your own, or a set of docs/data.md under its license.
"""

from configs import common, finetune


def get_config(arg=None):
    args = common.parse_arg(
        arg, dataset="casia", backbone="iresnet50", embedding_size=512, batch_size=64, num_epochs=10.0
    )
    config = finetune.get_config(",".join(f"{key}={value}" for key, value in args.items()))
    config.augment.views = {
        "hr": common.view(weight=0.0),  # the teacher's
        "lr": common.view(7, 10, 14, 20, 28, weight=1.0),
    }
    config.loss.distance_weight = 0.0
    same_face = "student.lr.feature", "teacher.hr.feature"
    config.terms = {"to_teacher": common.term("cosine", *same_face, weight=30.0, over="sum")}
    config.class_centers = "teacher"
    config.teacher = common.teacher(config.init_from, cache="records", compatible_from=112)
    # In 150 steps of 64 real faces its cosine distance to the teacher falls to 0.55, by SGD at a rate of 0.02 to 0.62.
    common.use_adamw(config, learning_rate=1e-3, weight_decay=1e-4, second_beta=0.99)
    config.optimizer.frozen = ("classifier",)
    config.evals = {}  # a run's own evaluation knows one network; `evaluate` with --gallery_checkpoint knows both
    return config
