# Sourced by the other scripts: makes .venv with the requirements in it, once for each version of them; sets $PYTHON.
# VENV=DIR makes another environment than .venv, BASE_PYTHON=FILE makes it of that Python.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

find_pythons() { # one of each supported version, newest first; pyenv's shims answer for the version that is switched on alone
  local version candidate
  for version in 3.13 3.12 3.11; do
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python python3 python; do
      if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" >/dev/null 2>&1; then
        echo "$candidate"
        break
      fi
    done
  done
}

make_environment() { # EXTRA: '' or '[dev]'
  local wanted python stamp=$VENV/.lrfr_jax_stamp
  wanted="$1 $(cat requirements.txt pyproject.toml | cksum)"
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
  echo "Setting up $VENV (about 1 GB, once) ..."
  if command -v uv >/dev/null 2>&1; then
    [ -x "$PYTHON" ] || uv venv --quiet --seed --python "${BASE_PYTHON:->=3.11,<3.14}" "$VENV" || return
    uv pip install --quiet --python "$PYTHON" -e ".$1" || return
  else
    python=${BASE_PYTHON:-$(find_pythons | sed -n 1p)}
    if [ -z "$python" ]; then
      echo "error: Python 3.11, 3.12 or 3.13 is needed and none is on the PATH: install one, or uv, which brings its own" >&2
      return 1
    fi
    [ -x "$PYTHON" ] || "$python" -m venv "$VENV" || return
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -e ".$1" || return
  fi
  echo "$wanted" > "$stamp"
}

VENV=${VENV:-.venv}
PYTHON=$VENV/bin/python
# Large blocks of memory in huge pages: on a CPU a training step asks for gigabytes anew, and its page faults take time.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# Compiled programs are kept, so that a second run starts at once.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/.jax_cache}
