#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU slice: copies this checkout to each, sets it up and starts one process on each.
#   bash launch/tpu_vm.sh NAME ZONE --config configs/ms1m_r50.py --workdir gs://BUCKET/runs/ms1m --data_dir /mnt/data
# NAME and ZONE are those of `gcloud compute tpus tpu-vm create`; PROJECT=... names another project than gcloud's own.
# The workdir must be one place for all workers. Run again, it continues. To save and stop a run that is on the slice:
#   gcloud compute tpus tpu-vm ssh NAME --zone ZONE --worker=all --command 'pkill -TERM -f lrfr_jax.main'
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ $# -lt 3 ] || [[ $1 == -* ]] || [[ $2 == -* ]]; then
  echo "error: usage: bash launch/tpu_vm.sh NAME ZONE --config FILE --workdir W --data_dir DATA" >&2
  exit 1
fi
if ! command -v gcloud >/dev/null; then
  echo "error: gcloud is not on the PATH: install the Google Cloud CLI" >&2
  exit 1
fi
name=$1 zone=$2
shift 2
where=(--zone "$zone" --worker=all)
[ -z "${PROJECT:-}" ] || where+=(--project "$PROJECT")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
archive=$folder/lrfr_jax.tar.gz
tar -czf "$archive" --exclude=__pycache__ configs launch lrfr_jax LICENSE README.md pyproject.toml requirements.txt
gcloud compute tpus tpu-vm scp "$archive" "$name:lrfr_jax.tar.gz" "${where[@]}"
# The slices' images have an old Python; uv brings a newer one.
read -r -d '' script <<'WORKER' || true
set -euo pipefail
mkdir -p lrfr_jax && tar -xzf lrfr_jax.tar.gz -C lrfr_jax
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --quiet --user uv
source lrfr_jax/launch/environment.sh
make_environment '[tpu,remote]'
exec "$PYTHON" -m lrfr_jax.main --distributed
WORKER
gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --command "bash -c $(printf '%q' "$script$(printf ' %q' "$@")")"
