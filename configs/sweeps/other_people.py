"""Fine-tuned on LFW and tested on PubFig, and the other way round (docs/results.md).

Commands (the first prints the command of each row; with --rows all it runs them, in this order):
  python launch/sweep.py configs/sweeps/other_people.py --workdir runs/other_people --data_dir DATA
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/other_people.py --workdir runs/other_people
Hardware: a CPU core, 10 to 15 minutes a row and seed.
"""

from configs import other_people

BASE = "configs/other_people.py"
_SETS = {"lfw": ("pubfig_folds_4_10", "pubfig_gallery_4_10"), "pubfig": ("lfw_folds_9_10", "lfw_gallery_9_10")}
_BELOW = (28, 20, 14, 10, 7)


def _columns(pairs, search):
    accuracy = {"112 px": f"{pairs}/accuracy"} | {f"{px} px": f"{pairs}/hr_lr_{px}/accuracy" for px in _BELOW}
    rank1 = {"rank-1 112 px": f"{search}/rank1"} | {f"rank-1 {px} px": f"{search}/lr_{px}/rank1" for px in _BELOW}
    return accuracy | rank1


TABLES = {f"Trained on {train}, tested on {sets[0]}": _columns(*sets) for train, sets in _SETS.items()}


def rows():
    for train in _SETS:
        for option in other_people.OPTIONS:
            arg = f"option={option},train={train},part=test"
            yield {"name": f"{option}_{train}", "arg": arg, "overrides": {}, "paper": {}}
