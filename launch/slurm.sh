#!/usr/bin/env bash
# Trains on the GPUs of any number of nodes, one process per GPU. Submit it from the folder of lrfr_jax, which lies, like
# workdir and data, on a disk that all nodes see; the arguments are those of lrfr_jax.main:
#   sbatch --nodes=4 launch/slurm.sh --config configs/ms1m_r50.py --workdir runs/ms1m --data_dir data
# Options of sbatch before the script's name change the lines below. Five minutes before the time limit, and when the job
# is preempted, all processes save one checkpoint and the job queues up again to go on from there.
#SBATCH --job-name=lrfr_jax
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail
# Slurm runs a copy of this file, in the folder that the job was submitted from.
if [ ! -f launch/environment.sh ]; then
  echo "error: $PWD is not the folder of lrfr_jax: submit launch/slurm.sh from there" >&2
  exit 1
fi
source launch/environment.sh
make_environment "${EXTRA:-[cuda12]}" # EXTRA='[cuda13]' sbatch ... for drivers from 580 on
status=0
# srun does not take over what the job asked for: without this a process has one core for all its readers.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# jax finds addresses and numbers in srun's variables; each process takes the GPU of its number on its node.
srun --kill-on-bad-exit=1 "$PYTHON" -m lrfr_jax.main "$@" || status=$?
if [ "$status" -eq 143 ]; then # saved after SIGTERM
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
