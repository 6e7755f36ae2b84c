#!/usr/bin/env bash
# Passes the tests, with all set-up: bash launch/test.sh [arguments of pytest]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment '[dev]'
"$PYTHON" -m ruff check .
exec "$PYTHON" -m pytest "$@"
