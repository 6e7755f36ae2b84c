"""Ling et al. 2022, Table 6: how often 7, 14 and 20 px are drawn.

Commands (the first prints the command of each row; with --rows all it runs them):
  python launch/sweep.py configs/sweeps/table6.py --workdir runs/paper --data_dir data --evaluate scface,xqlfw,lfw
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/table6.py --workdir runs/paper
Hardware and data: those of the base config, for each row. Baseline, MAug only and 1:1:2 are rows of Table 4.
"""

from configs.sweeps import ALL_SETS, LOGEXP_1, NO_DISTANCE, row

BASE = "configs/casia_r34.py"
TABLES = {"SCface without fine-tuning, XQLFW and LFW": ALL_SETS}


def ratios(*shares):
    """A size that is never drawn stays among the sizes, so that all rows compile the same program."""
    return LOGEXP_1 | {"augment.views.lr.sizes": (7, 14, 20), "augment.views.lr.ratios": tuple(map(float, shares))}


# name, policy of the low-resolution view, changes, the paper's numbers in the order of the columns
RATIOS = (
    ("baseline", "none", {}, (40.3, 92.8, 98.5, 77.2, 68.95, 99.42)),
    ("maug", "maug", NO_DISTANCE, (67.0, 95.3, 98.0, 86.8, 90.89, 98.98)),
    ("maug_logexp1_ratios_1_1_0", "maug", ratios(1, 1, 0), (73.8, 94.0, 96.8, 88.2, 92.43, 98.68)),
    ("maug_logexp1_ratios_0_1_1", "maug", ratios(0, 1, 1), (71.5, 95.8, 98.3, 88.5, 83.52, 99.05)),
    ("maug_logexp1_ratios_1_0_1", "maug", ratios(1, 0, 1), (65.3, 94.8, 97.8, 86.0, 90.53, 99.02)),
    ("maug_logexp1_ratios_1_1_1", "maug", ratios(1, 1, 1), (72.5, 96.5, 98.3, 89.1, 91.45, 98.88)),
    ("maug_logexp1_ratios_1_2_1", "maug", ratios(1, 2, 1), (72.8, 95.0, 98.0, 88.6, 91.68, 98.82)),
    ("maug_logexp1_ratios_2_1_1", "maug", ratios(2, 1, 1), (72.8, 96.8, 97.3, 88.9, 92.05, 98.75)),
    ("maug_logexp1", "maug", ratios(1, 1, 2), (73.0, 96.0, 98.8, 89.3, 92.18, 99.03)),
)


def rows():
    for *run, numbers in RATIOS:
        yield row(*run, columns=ALL_SETS, numbers=numbers)
