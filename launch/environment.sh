# Sourced by the other scripts: makes .venv with the requirements in it, once for each version of them; sets $PYTHON.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

find_python() {
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

make_environment() { # EXTRA: '' or '[dev]'
  local wanted stamp=.venv/.lrfr_jax_stamp
  wanted="$1 $(cat requirements.txt pyproject.toml | cksum)"
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
  echo "Setting up .venv (about 1 GB, once) ..."
  if command -v uv >/dev/null 2>&1; then
    [ -x .venv/bin/python ] || uv venv --quiet --seed --python '>=3.11,<3.14' .venv || return
    uv pip install --quiet --python .venv/bin/python -e ".$1" || return
  else
    local python
    python=$(find_python)
    if [ -z "$python" ]; then
      echo "error: Python 3.11, 3.12 or 3.13 is needed and none is on the PATH: install one, or uv, which brings its own" >&2
      return 1
    fi
    [ -x .venv/bin/python ] || "$python" -m venv .venv || return
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$1" || return
  fi
  echo "$wanted" > "$stamp"
}

PYTHON=.venv/bin/python
# Large blocks of memory in huge pages: on a CPU a training step asks for gigabytes anew, and its page faults take time.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# Compiled programs are kept, so that a second run starts at once.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/.jax_cache}
