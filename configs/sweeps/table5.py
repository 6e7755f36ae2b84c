"""Ling et al. 2022, Table 5: the weight lambda of the distance term.

Commands (the first prints the command of each row; with --rows all it runs them):
  python launch/sweep.py configs/sweeps/table5.py --workdir runs/paper --data_dir data --evaluate scface,xqlfw,lfw
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/table5.py --workdir runs/paper
Hardware and data: those of the base config, for each row. The row of lambda 1 is Table 4's MAug+Ours(1).
"""

from configs.sweeps import LOGEXP_1, VERIFICATION, row

BASE = "configs/casia_r34.py"
TABLES = {"XQLFW and LFW": VERIFICATION}

# name, lambda, the paper's numbers in the order of the columns
WEIGHTS = (
    ("maug_logexp1_lambda0.1", 0.1, (91.97, 98.86)),
    ("maug_logexp1", 1.0, (92.18, 99.03)),
    ("maug_logexp1_lambda3", 3.0, (92.25, 98.91)),
    ("maug_logexp1_lambda5", 5.0, (92.45, 98.89)),
    ("maug_logexp1_lambda7", 7.0, (92.31, 98.91)),
    ("maug_logexp1_lambda10", 10.0, (92.17, 98.78)),
)


def rows():
    for name, weight, numbers in WEIGHTS:
        changes = LOGEXP_1 | {"loss.distance_weight": weight}
        yield row(name, "maug", changes, columns=VERIFICATION, numbers=numbers)
