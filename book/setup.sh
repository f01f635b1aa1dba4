#!/bin/sh
# Sets up .venv: book/setup.sh PYTHON. Called by the Makefile, which calls it
# again only when requirements.txt, constraints.txt or pyproject.toml change.
set -eu

say() { printf '%s\n' "$*" >&2; }
stop() { say "mattn: $*"; exit 1; }

python=$1
needs="Python 3.11 or newer is needed"
elsewhere="name another with: make PYTHON=/path/to/python ..."

command -v git >/dev/null 2>&1 || stop "git is needed and was not found."
command -v "$python" >/dev/null 2>&1 ||
    stop "$needs; '$python' was not found; $elsewhere"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    stop "$needs; '$python' does not run; $elsewhere"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "$needs; '$python' is Python $version; $elsewhere"

# A .venv whose Python has gone, or whose making was cut short, is made anew.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        stop "Python's venv module is needed (Debian: apt install python3-venv)."
    say "Setting up .venv with Python $version: once, a few minutes, about 2 GB."
    "$python" -m venv --clear .venv
fi

quiet=--quiet
[ -t 1 ] && quiet=
export PIP_REQUIRE_VIRTUALENV=1 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
.venv/bin/python -m pip install $quiet -r requirements.txt
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
