"""One file = one table of experiments, as data; here is what several tables share.

A file holds a docstring whose first line is the table's title, and
  BASE: the config file of every row that names none itself;
  TABLES: {title of a table: {title of a column: metric}}, a metric being a name as in `metrics.jsonl`, or several
    names joined by '+', which stand for their mean;
  rows(): one dict per run of {"name", "arg" (argument of the config file), "overrides" {field of the config: value},
    "paper" {metric: the published number in percent}}, and, where it has its own, "config": the path of a config file,
    or None for a system that no config trains, whose published numbers stand in the tables alone.

`launch/sweep.py FILE` prints and runs the commands of the rows, `python -m lrfr_jax.analysis.tables` lays the results
out. A row has the same name in every file that holds it, so that tables with one --workdir share its run.
"""

# The columns of Ling et al. 2022, Tables 4-6; SCface is rank-1 at three distances, "w/o FT".
VERIFICATION = {"XQLFW": "xqlfw/accuracy", "LFW": "lfw/accuracy"}
SCFACE = {f"SCface d{distance}": f"scface_d{distance}/rank1" for distance in (1, 2, 3)}
ALL_SETS = SCFACE | {"SCface mean": "+".join(SCFACE.values())} | VERIFICATION

# Eq. 1, 2 and 5; the exponent p is part of L1 and L2.
NO_DISTANCE = {"loss.distance_weight": 0.0}
L1 = {"loss.distance": "l1", "loss.p": 1.0}
L2 = {"loss.distance": "l2", "loss.p": 2.0}
LOGEXP_1 = {"loss.distance": "logexp", "loss.p": 1.0}
LOGEXP_2 = {"loss.distance": "logexp", "loss.p": 2.0}


def row(name, policy, overrides, *, columns=None, numbers=()):
    """One run of a config file that takes `policy`; `numbers` are the published ones, in the order of the columns."""
    return {"name": name, "arg": f"policy={policy}", "overrides": overrides, "paper": published(columns or {}, numbers)}


def system(name, config, arg, overrides, *, columns, numbers):
    """One run of a config file of its own, or with None in its place no run; None among the numbers: not published."""
    paper = published(columns, numbers)
    return {"name": name, "config": config, "arg": arg, "overrides": overrides, "paper": paper}


def published(columns, numbers):
    """{metric: number} of the numbers that there are."""
    pairs = zip(columns.values(), numbers, strict=True)
    return {metric: number for metric, number in pairs if number is not None}
