"""Ling et al. 2022, Table 2: identification on TinyFace, ours after fine-tuning on its training part.

Commands (the first prints the command of each row; with --rows all it runs them):
  python launch/sweep.py configs/sweeps/table2.py --workdir runs/paper --data_dir data --evaluate tinyface
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/table2.py --workdir runs/paper
Hardware and data: those of configs/finetune_tinyface.py and configs/systems/rpcl.py. What is fine-tuned is trained
before: `maug_logexp1` of table4.py and `ours_r50` of table3.py with the seed 0 in runs/paper; configs/systems/rpcl.py
in runs/rpcl_cosface and, with --config.head.rival_share=0.0, in runs/rpcl_cosface_alone.

The rows are of several protocols: DCR, PeiLi's, CosFace(Res34) and RPCL are RPCL's own, on gray enlarged faces, by a
ResNet18; CosFace(Res100) and URL saw no face of TinyFace. The paper has two digits.
"""

from configs.sweeps import system

BASE = "configs/finetune_tinyface.py"
RPCL = "configs/systems/rpcl.py"
COLUMNS = {f"rank {k}": f"tinyface/rank{k}" for k in (1, 5, 10, 20)}
TABLES = {"TinyFace": COLUMNS}

# RPCL's own comparison: its CosFace without the rival, in both trainings
COSFACE = {"head.rival_share": 0.0, "init_from": "runs/rpcl_cosface_alone/checkpoints/14719"}
RES34 = {"init_from": "runs/paper/maug_logexp1/seed0/checkpoints/53662"}
RES50 = {"init_from": "runs/paper/ours_r50/seed0/checkpoints/363916"}

# name, config, its argument, changes, the paper's numbers in the order of the columns
METHODS = (
    ("dcr", None, "", {}, (29, None, 40, 44)),
    ("peilis", None, "", {}, (31, None, 43, 46)),
    ("chengs", None, "", {}, (36, None, 46, 50)),
    ("cosface_r18_tinyface", RPCL, "head=rpcl_cosface,stage=tinyface", COSFACE, (29, None, 39, 42)),
    ("rpcl_r18_tinyface", RPCL, "head=rpcl_cosface,stage=tinyface", {}, (32, None, 41, 44)),
    ("cosface_r100", None, "", {}, (47, 52, None, None)),
    ("url_r100", None, "", {}, (63, 68, None, None)),
    ("ours_r34_tinyface", BASE, "", RES34, (39, 46, 50, 54)),
    ("ours_r50_tinyface", BASE, "backbone=resnet50", RES50, (59, 64, 68, 73)),
)


def rows():
    for *method, numbers in METHODS:
        yield system(*method, columns=COLUMNS, numbers=numbers)
