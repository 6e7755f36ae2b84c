"""Every system on generated faces: the quick start's small network, data and number of steps (docs/results.md).

Command (launch/quickstart.sh prepares the data; configs/sweeps/generated_systems.py has the rows in their order):
  python -m lrfr_jax.main --config configs/generated_systems.py:system=octuplet --workdir W --data_dir DIR
Arguments: system (a row of the table below), runs (the folder of the rows' runs, where a system finds what it starts
from), batch_size.
Views, head, terms, parts and order of images are those of each system's own config; the rest is the quick start's, and
its small numbers of the heads. What the table changes is what becomes of published numbers in a network with an eighth
of the channels, 128 dimensions and features half as long; all of it ours, and none of it tuned.
The budget is 3.5 epochs, 919 steps. What starts from a trained network has half of it, as `start` had the other half;
a student from random weights too, whose teacher had the other half.
Hardware: a CPU core, 4 to 12 minutes a run.
"""

from configs import common, compatible, quickstart
from configs.systems import askd, bridge_kd, datl, ddl, fskd, massoli, octuplet, tcn

WHOLE, HALF = 3.5, 1.75  # epochs
START, ASKD_TEACHER = "start/seed0/checkpoints/460", "askd_teacher/seed0/checkpoints/460"
BRIDGE = "bridge_kd_1/seed0/checkpoints/132"
# What a system's own config decides here too.
TAKEN = ("augment", "terms", "parts", "classified", "class_centers", "input.order", "input.images_per_identity")
TAKEN += ("loss.distance_weight", "optimizer.frozen", "model.batch_norm")

# Of faces that come as small as those that are tested; the published sizes are those of SCface's distances.
_SMALL = {"augment.views.lr.sizes": (7, 14, 20)}
_CBAM = {"model.backbone": "cbam_iresnet18"}
_HINTS = {f"parts.hint{n}.channels": (size,) for n, size in enumerate((8, 16, 32, 64), 1)}
# What it trains begins with random weights.
_ADAPTATION = {"parts.adaptation.channels": (64, 32), "optimizer.warmup_epochs": 0.1, "optimizer.learning_rate": 0.05}
_TINY = {"model.backbone": "bridge_student", "model.width": 1.0, "model.embedding_size": 32, "model.input.size": 16}
# 9 times until all images are degraded, within 7,360
_GROWTH = {"augment.views.lr.share.every_images": 700}
# Its classifier has no bias, which linear_softmax wants beside the centers of a checkpoint.
_MEANS = {"class_centers": "mean_embedding", "terms.triplet.margin": 0.05}

# system: its config (None: none but the quick start's), the argument, epochs, first weights, teacher, changes
SYSTEMS = {
    "cosface": (None, "policy=none", WHOLE, "", "", {}),
    "maug_logexp": (None, "policy=maug", WHOLE, "", "", {}),
    "start": (None, "policy=none", HALF, "", "", {}),
    "octuplet": (octuplet, "", HALF, START, "", {"terms.octuplet.margin": 12.5}),
    "datl": (datl, "loss=datl", HALF, START, "", _SMALL),
    "daql": (datl, "loss=daql", HALF, START, "", _SMALL),
    "ddl": (ddl, "", HALF, START, "", {}),
    "massoli": (massoli, "share=curriculum", HALF, START, START, _GROWTH),
    "askd_teacher": (askd, "stage=teacher", HALF, "", "", _CBAM),
    "askd": (askd, "size=14", HALF, "", ASKD_TEACHER, _CBAM),
    "fskd": (fskd, "", HALF, "", START, _HINTS | {"head.margin": 0.1}),
    "bridge_kd_1": (bridge_kd, "step=1,embedding_size=128", 0.5, START, "", _ADAPTATION),
    "bridge_kd": (bridge_kd, "step=2,size=16", 1.25, "", BRIDGE, _TINY),
    "tcn": (tcn, "", HALF, START, START, _SMALL | _MEANS),
    "compatible": (compatible, "", HALF, START, START, {"terms.lr_to_start.weight": 15.0}),
}
# As in the recipes: a fifth of, or less than, what random weights begin with; 0.4 of it here, for there are few steps.
RATE_OF_TRAINED = 0.02


def get_config(arg=None):
    args = common.parse_arg(arg, system="maug_logexp", runs="runs/generated_systems", batch_size=16)
    if args.system not in SYSTEMS:
        raise ValueError(f"system={args.system} is unknown: choose one of {', '.join(SYSTEMS)}")
    module, argument, epochs, first, teacher, changes = SYSTEMS[args.system]
    shared = f"batch_size={args.batch_size},num_epochs={epochs}"
    if module is None:
        return quickstart.get_config(f"{argument},{shared}")
    config = quickstart.get_config(f"policy=none,{shared}")
    own = module.get_config(f"{argument},batch_size={args.batch_size}" if argument else f"batch_size={args.batch_size}")
    for field in TAKEN:
        group, _, name = field.rpartition(".")
        setattr(config[group] if group else config, name, (own[group] if group else own)[name])
    config.head = own.head
    config.head.update(quickstart.SMALL_HEADS.get(own.head.name, {}))
    config.evals = config.evals if own.evals else own.evals
    if first:
        config.init_from = f"{args.runs}/{first}"
        config.optimizer.learning_rate = RATE_OF_TRAINED
    if teacher:
        how = {name: own.teacher[name] for name in ("cache", "compatible_from")}
        config.teacher = common.teacher(f"{args.runs}/{teacher}", **how)
    config.update_from_flattened_dict(changes)
    return config
