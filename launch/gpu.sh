#!/usr/bin/env bash
# Trains on all NVIDIA GPUs of this machine, with all set-up; the arguments are those of lrfr_jax.main:
#   bash launch/gpu.sh --config configs/ms1m_r50.py --workdir runs/ms1m --data_dir data
#   PROCESSES=8 bash launch/gpu.sh ...   as many processes, each with its share of the GPUs: for where one process
#                                        cannot decode fast enough for all of them (docs/scaling.md)
# Run again, it continues; SIGTERM saves and stops it. With JAX_PLATFORMS=cpu it runs without a GPU. It changes to the
# checkout: relative paths, of --workdir too, start there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
count=${PROCESSES:-1}

extra='' gpus=$count
if [[ ${JAX_PLATFORMS:-cuda} =~ cuda|gpu ]]; then
  gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ' || true) # not the lines of their MIG parts
  if [ "$gpus" -eq 0 ]; then
    echo "error: nvidia-smi lists no GPU on this machine: install the driver, or set JAX_PLATFORMS=cpu" >&2
    exit 1
  fi
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then # empty or -1: none
    gpus=$(tr ',' '\n' <<< "$CUDA_VISIBLE_DEVICES" | grep -vcx -e '' -e -1 || true)
    if [ "$gpus" -eq 0 ]; then
      echo "error: CUDA_VISIBLE_DEVICES='$CUDA_VISIBLE_DEVICES' names no GPU: unset it, or set JAX_PLATFORMS=cpu" >&2
      exit 1
    fi
  fi
  # Drivers from 580 on run CUDA 13.
  read -r driver < <(nvidia-smi --query-gpu=driver_version --format=csv,noheader) || true
  if [ "${driver%%.*}" -ge 580 ]; then extra='[cuda13]'; else extra='[cuda12]'; fi
  export JAX_PLATFORMS=cuda # a GPU that jax cannot use is an error, not a run on the CPU
fi
if ! [[ $count =~ ^[1-9][0-9]*$ ]] || [ $((gpus % count)) -ne 0 ]; then
  echo "error: PROCESSES=$count does not divide the $gpus GPUs of this machine" >&2
  exit 1
fi
make_environment "$extra"
[ "$count" -eq 1 ] && exec "$PYTHON" -m lrfr_jax.main "$@"

port=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
share=$((gpus / count))
processes=()
for ((number = 0; number < count; number++)); do
  JAX_LOCAL_DEVICE_IDS=$(seq -s, $((number * share)) $((number * share + share - 1))) "$PYTHON" -m lrfr_jax.main "$@" \
    --coordinator "127.0.0.1:$port" --num_processes "$count" --process_id "$number" &
  processes+=($!)
done
trap 'kill -TERM "${processes[@]}" 2>/dev/null' TERM INT
status=0
for process in "${processes[@]}"; do
  # A signal ends `wait` before the process.
  while code=0 && { wait "$process" || code=$?; } && kill -0 "$process" 2>/dev/null; do :; done
  [ "$status" -ne 0 ] || status=$code
done
exit "$status"
