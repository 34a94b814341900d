#!/usr/bin/env bash
# Makes .venv: the lock with its hashes, then this repository's distributions, editable.
# Needs Python 3.11 or newer with venv, and a package registry. PYTHON names another interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3 python3.13 python3.12 python3.11; do
    if new_enough "$candidate"; then python=$candidate; break; fi
  done
fi
[ -n "$python" ] || fail "no Python 3.11 or newer found: install one, or name it with 'make setup PYTHON=/path/to/python3.11'"
new_enough "$python" || fail "$python is not Python 3.11 or newer: name a newer one with 'make setup PYTHON=/path/to/python3.11'"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python has no venv module: on Debian or Ubuntu run 'apt install python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv', then 'make setup' again"

[ -x .venv/bin/python ] && new_enough .venv/bin/python || "$python" -m venv --clear .venv

# uv itself comes by pip, at the version and the hashes of the lock.
uv_pin=$(sed -n 's/^uv==\([^ ;]*\).*/\1/p' requirements.lock)
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$uv_pin" ]; then
  awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements.lock > .venv/uv.txt
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
fi

# A registry or certificate that pip was told of holds for uv too.
pip_option() { .venv/bin/python -m pip config get "$1" 2>/dev/null || true; }
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
  index=${PIP_INDEX_URL:-$(pip_option global.index-url)}
  [ -z "$index" ] || export UV_DEFAULT_INDEX=$index
fi
if [ -z "${SSL_CERT_FILE:-}" ]; then
  bundle=${PIP_CERT:-$(pip_option global.cert)}
  [ -z "$bundle" ] || export SSL_CERT_FILE=$bundle
fi

export VIRTUAL_ENV=$PWD/.venv
.venv/bin/uv pip sync --quiet --require-hashes requirements.lock
# No dependencies here: a stranger's package of one of these names is never fetched.
editable=()
for project in */pyproject.toml services/*/pyproject.toml; do editable+=(-e "./${project%/pyproject.toml}"); done
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation "${editable[@]}"
touch .venv/.setup
