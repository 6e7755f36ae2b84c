"""Every system on generated faces, for equal numbers of steps (docs/results.md).

Commands (the first prints the command of each row; with --rows all it runs them, in this order):
  python launch/sweep.py configs/sweeps/generated_systems.py --workdir runs/generated_systems --data_dir DATA
  python -m lrfr_jax.analysis.tables --sweep configs/sweeps/generated_systems.py --workdir runs/generated_systems
DATA is the folder `data` that launch/quickstart.sh makes. Hardware: a CPU core; two hours for all rows. Rows start from
others with the seed 0 in runs/generated_systems. TCN and the model that fits a gallery read galleries with `start`:
  python -m lrfr_jax.evaluate --workdir runs/generated_systems/ROW/seed0 --data_dir DATA --resolutions 14,7 \
    --gallery_checkpoint runs/generated_systems/start/seed0/checkpoints/460
"""

BASE = "configs/generated_systems.py"
TABLES = {
    "Accuracy on generated faces of other identities, below 112 px against full resolution": {
        "112 px": "generated_test/accuracy",
        "14 px": "generated_test/hr_lr_14/accuracy",
        "7 px": "generated_test/hr_lr_7/accuracy",
    }
}
SYSTEMS = ("cosface", "maug_logexp", "start", "octuplet", "datl", "daql", "ddl", "massoli", "askd_teacher", "askd")
SYSTEMS += ("fskd", "bridge_kd_1", "bridge_kd", "tcn", "compatible")


def rows():
    for system in SYSTEMS:
        yield {"name": system, "arg": f"system={system}", "overrides": {}, "paper": {}}
