"""Ling et al. 2022, Table 4: what multi-resolution augmentation and the distance function add, each and together.

Commands (the first prints the command of each row; with --rows all it runs them):
  python launch/sweep.py configs/sweeps/table4.py --workdir runs/paper --data_dir data --evaluate scface,xqlfw,lfw
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/table4.py --workdir runs/paper
Hardware and data: those of the base config, for each row.
The paper compares the distances at one lambda, not at one size of their gradients.
"""

from configs.sweeps import ALL_SETS, L1, L2, LOGEXP_1, LOGEXP_2, NO_DISTANCE, row

BASE = "configs/casia_r34.py"
TABLES = {"SCface without fine-tuning, XQLFW and LFW": ALL_SETS}

# name, policy of the low-resolution view, changes, the paper's numbers in the order of the columns
METHODS = (
    ("baseline", "none", {}, (40.3, 92.8, 98.5, 77.2, 68.95, 99.42)),
    ("aug", "aug", NO_DISTANCE, (71.5, 92.8, 96.3, 86.8, 84.33, 98.65)),
    ("maug", "maug", NO_DISTANCE, (67.0, 95.3, 98.0, 86.8, 90.89, 98.98)),
    ("paug_logexp1", "paug", LOGEXP_1, (60.3, 95.3, 98.8, 84.8, 90.35, 99.02)),
    ("aug_l1", "aug", L1, (67.3, 94.5, 94.8, 85.5, 85.23, 98.57)),
    ("aug_logexp1", "aug", LOGEXP_1, (70.0, 94.8, 96.5, 87.1, 87.78, 98.60)),
    ("maug_logexp1", "maug", LOGEXP_1, (73.0, 96.0, 98.8, 89.3, 92.18, 99.03)),
    ("aug_l2", "aug", L2, (71.8, 90.0, 92.8, 84.8, 84.87, 98.50)),
    ("aug_logexp2", "aug", LOGEXP_2, (72.5, 92.3, 94.3, 86.3, 86.88, 98.63)),
    ("maug_logexp2", "maug", LOGEXP_2, (74.0, 95.5, 97.8, 89.1, 91.98, 99.08)),
)


def rows():
    for *method, numbers in METHODS:
        yield row(*method, columns=ALL_SETS, numbers=numbers)
