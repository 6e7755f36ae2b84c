#!/usr/bin/env bash
# Passes the tests, with all set-up: bash launch/test.sh [arguments of pytest]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment '[dev]'
"$PYTHON" -m ruff check .
"$PYTHON" -c 'import importlib.metadata, platform; print("Python", platform.python_version(), "jax", importlib.metadata.version("jax"))'
# Two processes: most of the time goes into compiling, which keeps one core busy. A file's programs stay in one process.
exec "$PYTHON" -m pytest -n 2 --dist loadfile "$@"
