"""A sweep file and evaluations for it, as text and plain values."""

import json

from lrfr_jax.evals import report

TEXT = '''"""A table of <faces>."""
BASE = "b.py"
TABLES = {"Faces": {"112 px": "faces/accuracy", "7 px": "faces/hr_lr_7/accuracy"},
          "Mean": {"mean": "cams_d1/rank1+faces/accuracy"}}
def rows():
    for name, paper in (("first", PAPER), ("second", {}), ("third", {})):
        yield {"name": name, "arg": "", "overrides": {}, "paper": paper}
'''


def write_sweep(folder, *, paper):
    path = folder / "table.py"
    path.write_text(TEXT.replace("PAPER", repr(paper)))
    return path


def evaluation(full, low, *, step=20, rank1=0.5, pairs=600):
    def one(mode, resolution, accuracy):
        interval = [accuracy - 0.01, accuracy + 0.01]
        shared = {"first_resolution": 112, "auc": 0.9, "tar": {"0.1": 0.25}}
        return shared | {
            "mode": mode, "resolution": resolution, "accuracy": accuracy, "accuracy_interval": interval
        }  # fmt: skip

    faces = {"kind": "verification", "is_partial": False, "protocol": "insightface", "pairs": pairs, "folds": 10}
    faces |= {"feature_norm": 1.0, "ssim": {}, "results": [one("hr_hr", 112, full), one("hr_lr", 7, low)]}
    cams = {"kind": "identification", "is_partial": False, "protocol": "scface", "images": 9, "ssim": {}}
    cams["results"] = [{"name": "rank1", "group": "d1", "resolution": 112, "value": rank1}]
    return {"step": step, "checkpoint": "c", "sets": {"faces": faces, "cams": cams}}


def write_run(root, name, seed, made, *, config=None, log=None):
    workdir = root / name / f"seed{seed}"
    report.write_report(workdir / "eval" / f"{made['step']}.json", made)
    if config is not None:
        (workdir / "config.json").write_text(json.dumps(config | {"seed": seed}))
    if log is not None:
        (root / name / f"seed{seed}.log").write_text(log)
    return workdir
