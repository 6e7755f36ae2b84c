"""Ling et al. 2022, Table 1: rank-1 on SCface, by 80 persons after fine-tuning on the 50 others.

Commands (the first prints the command of each row; with --rows all it runs them):
  python launch/sweep.py configs/sweeps/table1.py --workdir runs/paper --data_dir data --evaluate scface
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/table1.py --workdir runs/paper
Hardware and data: those of configs/finetune_scface.py, whose docstring says how one draw of the persons is prepared.
What is fine-tuned is trained before: `maug_logexp1` is the row without fine-tuning, `ours_r50` is one of table3.py and
`baseline` of table4.py, all with the seed 0 and in runs/paper; configs/systems/npt.py makes runs/npt and
configs/systems/tcn.py:stage=teacher makes runs/tcn_teacher; pretrained/arcface_r50 is imported (docs/finetuning.md). Of
TCN the gallery is read by its teacher: its docstring has the command.

The rows are hardly of one protocol: those of TCN, DATL, DAQL, NPT and RPCL-DCR are no multiples of a quarter of a
percent, which 400 probes would give, so they are means or have other probes. A point is four probes.
"""

from configs.sweeps import LOGEXP_1, SCFACE, row, system

BASE = "configs/casia_r34.py"
FINETUNE = "configs/finetune_scface.py"
DATL, DDL, TCN = (f"configs/systems/{name}.py" for name in ("datl", "ddl", "tcn"))
COLUMNS = SCFACE | {"SCface mean": "+".join(SCFACE.values())}
TABLES = {"SCface, fine-tuned but for maug_logexp1": COLUMNS}

NPT = {"init_from": "runs/npt/checkpoints/238820", "model.input.scale": 128.0}
BASELINE = {"init_from": "runs/paper/baseline/seed0/checkpoints/53662"}
RES34 = {"init_from": "runs/paper/maug_logexp1/seed0/checkpoints/53662"}
RES50 = {"init_from": "runs/paper/ours_r50/seed0/checkpoints/363916"}

# name, config, its argument, changes, the paper's numbers in the order of the columns
BEFORE = (
    ("dcr", None, "", {}, (73.3, 93.5, 98.0, 88.27)),
    ("tcn", TCN, "", {}, (74.6, 94.9, 98.6, 89.37)),
    ("datl", DATL, "loss=datl", BASELINE, (76.2, 96.9, 98.1, 90.40)),
    ("daql", DATL, "loss=daql", BASELINE, (77.3, 96.6, 98.1, 90.66)),
    ("ran", None, "", {}, (81.3, 97.8, 98.8, 92.63)),
    ("ddl_r50", DDL, "", {}, (86.8, 98.3, 98.3, 94.47)),
    ("npt_r50_scface", FINETUNE, "backbone=resnet50,head=npt,policy=none", NPT, (85.7, 99.1, 99.1, 94.63)),
    ("rpcl_dcr", None, "", {}, (90.4, 98.0, 98.0, 95.47)),
)
FINETUNED = (
    ("ours_r34_scface", FINETUNE, "", RES34, (91.8, 99.0, 99.3, 96.67)),
    ("ours_r50_scface", FINETUNE, "backbone=resnet50", RES50, (92.5, 99.3, 99.5, 97.08)),
)


def rows():
    for *run, numbers in BEFORE:
        yield system(*run, columns=COLUMNS, numbers=numbers)
    yield row("maug_logexp1", "maug", LOGEXP_1, columns=COLUMNS, numbers=(73.0, 96.0, 98.8, 89.27))
    for *run, numbers in FINETUNED:
        yield system(*run, columns=COLUMNS, numbers=numbers)
