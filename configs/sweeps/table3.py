"""Ling et al. 2022, Table 3: verification on LFW and XQLFW, ours beside what others published.

Commands (the first prints the command of each row; with --rows all it runs them):
  python launch/sweep.py configs/sweeps/table3.py --workdir runs/paper --data_dir data --evaluate xqlfw,lfw
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/table3.py --workdir runs/paper
Hardware and data: those of the config of each row. CosFace and ours of ResNet34 are rows of Table 4. QMagFace is no run
of its own but another score of the run `magface_r50`.

The numbers of others are the XQLFW site's, of one embedding; QMagFace's are from its paper.
"""

from configs.sweeps import LOGEXP_1, VERIFICATION, system

BASE = "configs/casia_r34.py"
TABLES = {"XQLFW and LFW": VERIFICATION}

# name, config, its argument, changes, the paper's numbers: XQLFW, LFW
METHODS = (
    ("baseline", "configs/systems/cosface.py", "", {}, (68.95, 99.42)),
    ("arcface_r50", "configs/systems/arcface.py", "", {}, (74.22, 99.50)),
    ("magface_r50", "configs/systems/magface.py", "", {}, (76.95, 99.63)),
    ("qmagface_r50", None, "", {}, (80.63, 99.73)),
    ("bt_m_r50", "configs/systems/btm_stm.py", "policy=bt_m", {}, (83.60, 99.30)),
    ("st_m2_r50", "configs/systems/btm_stm.py", "policy=st_m2", {}, (90.82, 95.87)),
    ("face_transformer", "configs/systems/face_transformer.py", "", {}, (87.90, 99.70)),
    ("st_m1_r50", "configs/systems/btm_stm.py", "policy=st_m1", {}, (90.97, 97.30)),
    ("maug_logexp1", BASE, "policy=maug", LOGEXP_1, (92.18, 99.03)),
    ("ours_r50", "configs/ms1m_r50.py", "policy=maug", LOGEXP_1, (94.33, 99.40)),
)


def rows():
    for *method, numbers in METHODS:
        yield system(*method, columns=VERIFICATION, numbers=numbers)
