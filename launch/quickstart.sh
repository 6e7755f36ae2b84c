#!/usr/bin/env bash
# The main job on generated faces, with all set-up: trains the high-resolution baseline and the method, compares them.
# bash launch/quickstart.sh [FOLDER]   (default: runs/quickstart; a relative one lies in the checkout)
# Run again, it continues or shows the result.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment ''
folder=${1:-runs/quickstart}
data=$folder/data

"$PYTHON" -m lrfr_jax.prepare generated --name generated_train --data_dir "$data" \
  --identities 150 --images_per_identity 28 --first_identity 0 --seed 0 --shards 2
"$PYTHON" -m lrfr_jax.prepare generated --name generated_test --data_dir "$data" \
  --identities 120 --images_per_identity 5 --first_identity 1000000 --seed 0 --shards 1 --pairs 1200
for policy in none maug; do
  "$PYTHON" -m lrfr_jax.main --config "configs/quickstart.py:policy=$policy" --workdir "$folder/$policy" --data_dir "$data"
done
"$PYTHON" -m lrfr_jax.analysis.compare --workdirs "$folder/none,$folder/maug" \
  --labels 'high resolution only,MAug + LogExp' --output "$folder/comparison"
