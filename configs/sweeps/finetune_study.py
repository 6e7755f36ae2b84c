"""The fine-tuning study: which policies, distances, weights and ratios help pretrained weights at low resolution.

Commands (the first prints the command of each row and seed; with --rows all it runs them):
  python launch/sweep.py configs/sweeps/finetune_study.py --workdir runs/study --data_dir data --seeds 0,1,2
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/finetune_study.py --workdir runs/study
Hardware and data: those of the base config, for each row and seed.

At one lambda the distances differ in the size of their gradients by orders of magnitude, so L1, L2 and LogExp are
compared at one share of the classification gradient; the rows of lambda 1, 50 and 500 give the weight as the paper
does.
"""

from configs.sweeps import L1, L2, LOGEXP_1, LOGEXP_2, NO_DISTANCE, row

BASE = "configs/finetune_lfw_pubfig.py"
PAIRS, SEARCH = "lfw_folds_9_10", "lfw_gallery_9_10"
LOWER = (56, 28, 20, 14, 10, 7)
HARD = (20, 14, 10, 7)


def _accuracies(mode):
    columns = {"112 px": f"{PAIRS}/accuracy"} | {f"{size} px": f"{PAIRS}/{mode}_{size}/accuracy" for size in LOWER}
    return columns | {"mean 20-7": "+".join(f"{PAIRS}/{mode}_{size}/accuracy" for size in HARD)}


TABLES = {
    "Verification, HR-LR: accuracy over the pairs of LFW folds 9 and 10": _accuracies("hr_lr"),
    "Verification, LR-LR: accuracy over the pairs of LFW folds 9 and 10": _accuracies("lr_lr"),
    "Identification: rank-1 of low-resolution probes, one high-resolution gallery image per identity": {
        "112 px": f"{SEARCH}/rank1",
        **{f"{size} px": f"{SEARCH}/lr_{size}/rank1" for size in LOWER},
        "mean 20-7": "+".join(f"{SEARCH}/lr_{size}/rank1" for size in HARD),
    },
}

EQUAL_SHARE = {"loss.weight_unit": "gradient_share", "loss.distance_weight": 0.2}


def _weight(value):
    return LOGEXP_1 | {"loss.weight_unit": "lambda", "loss.distance_weight": value}


def _ratios(*shares):
    # A size that is never drawn stays among the sizes, so that all rows compile the same program.
    return (
        LOGEXP_1
        | EQUAL_SHARE
        | {"augment.views.lr.sizes": (7, 14, 20), "augment.views.lr.ratios": tuple(map(float, shares))}
    )


# name, policy of the low-resolution view, changes
RUNS = (
    ("hr_only", "none", {}),
    ("aug14", "aug", NO_DISTANCE),
    ("maug", "maug", NO_DISTANCE),
    ("maug_l1", "maug", L1 | EQUAL_SHARE),
    ("maug_l2", "maug", L2 | EQUAL_SHARE),
    ("maug_logexp1", "maug", LOGEXP_1 | EQUAL_SHARE),
    ("maug_logexp2", "maug", LOGEXP_2 | EQUAL_SHARE),
    ("paug_logexp1", "paug", LOGEXP_1 | EQUAL_SHARE),
    ("maug_released", "maug", _weight(1.0) | {"loss.reduction": "released"}),
    ("maug_logexp1_lambda1", "maug", _weight(1.0)),
    ("maug_logexp1_lambda50", "maug", _weight(50.0)),
    ("maug_logexp1_lambda500", "maug", _weight(500.0)),
    ("maug_logexp1_ratios_1_1_0", "maug", _ratios(1, 1, 0)),
    ("maug_logexp1_ratios_0_1_1", "maug", _ratios(0, 1, 1)),
    ("maug_logexp1_ratios_1_0_1", "maug", _ratios(1, 0, 1)),
    ("maug_logexp1_ratios_1_1_1", "maug", _ratios(1, 1, 1)),
    ("maug_logexp1_ratios_1_2_1", "maug", _ratios(1, 2, 1)),
    ("maug_logexp1_ratios_2_1_1", "maug", _ratios(2, 1, 1)),
)


def rows():
    for run in RUNS:
        yield row(*run)
