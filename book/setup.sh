#!/bin/sh
# Sets up an environment. Called by the Makefile, which calls it again only when
# requirements.txt, constraints.txt or pyproject.toml change:
#   book/setup.sh PYTHON                     .venv
#   book/setup.sh PYTHON .venv-instructor    that of nbgrader
set -eu

# Python 3.x: the oldest that works, and the newest that every pin has wheels for.
oldest=11
newest=14
# MB on disk, measured: with torch's build for CPUs, and with PyPI's for Linux.
small=2500
large=5500

venv=${2:-.venv}
files=requirements.txt
minutes="2 to 10 minutes"
if [ "$venv" = .venv-instructor ]; then
    files=requirements-instructor.txt
    minutes="a minute or two"
    small=300
    large=300
fi

say() { printf '%s\n' "$*" >&2; }
stop() { say "mattn: $*"; exit 1; }
gb() { printf '%d.%d GB' $(($1 / 1000)) $(($1 % 1000 / 100)); }

python=$1
needs="Python 3.$oldest to 3.$newest is needed"
elsewhere="name another with: make PYTHON=/path/to/python3.$oldest ..."

# An environment that works is kept, with its Python; one whose Python has gone, or whose
# making was cut short, is made anew.
if $venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$venv/bin/python
    elsewhere="remove $venv, then $elsewhere"
fi
command -v "$python" >/dev/null 2>&1 ||
    stop "$needs; '$python' was not found; $elsewhere"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    stop "$needs; '$python' does not run; $elsewhere"
number=$((${version%.*} * 1000 + ${version#*.}))
if [ "$number" -lt $((3000 + oldest)) ]; then
    stop "$needs; '$python' is Python $version, which is too old; $elsewhere"
elif [ "$number" -gt $((3000 + newest)) ]; then
    stop "$needs; '$python' is Python $version, for which the pinned packages have no \
wheels; $elsewhere"
fi

# PyPI's torch for Linux brings CUDA libraries.
total=$small
if ls -d $venv/lib/python3*/site-packages/nvidia >/dev/null 2>&1; then
    total=$large
elif [ "$(uname)" = Linux ] &&
    ! ls -d $venv/lib/python3*/site-packages/torch >/dev/null 2>&1; then
    total=$large
fi
there=0
[ ! -d $venv ] || there=$(($(du -sk $venv | cut -f 1) / 1000))
free=$("$python" -c 'import shutil; print(shutil.disk_usage(".").free // 10**6)')
if [ $((there + free)) -lt "$total" ]; then
    why="$(gb $((total - there))) of free disk are needed here and $(gb "$free") are free"
    [ "$total" = "$small" ] || why="$why; $(gb $small) are enough with torch's build for \
CPUs: see \"On Linux without a GPU\" in README.md"
    stop "$why."
fi

if [ "$python" != $venv/bin/python ]; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        stop "Python's venv module is needed (Debian: apt install python3-venv)."
    say "Setting up $venv with Python $version: once, $minutes, $(gb "$total")."
    [ "$total" = "$small" ] ||
        say "($(gb $small) with torch's build for CPUs: README.md, On Linux without a GPU.)"
    "$python" -m venv --clear $venv
elif [ -e $venv/.ready ]; then
    say "The requirements have changed: $venv (Python $version) is brought up to date."
else
    say "Going on with the set-up of $venv (Python $version): what is there stays."
fi

export PIP_REQUIRE_VIRTUALENV=1 PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
# On a terminal pip shows what it does; elsewhere its words are kept, and shown
# when it fails.
install() {
    if [ -t 1 ]; then
        $venv/bin/python -m pip install "$@" && return
    else
        $venv/bin/python -m pip install "$@" >$venv/pip.log 2>&1 && return
        grep -v -e '^WARNING: Location' -e ' is ignored:' $venv/pip.log | tail -n 30 >&2
    fi
    stop "pip could not install what is needed: its reason stands above. \
What is there stays: the same command goes on from it."
}
install -r $files
[ $venv != .venv ] || install --no-deps --no-build-isolation -e .
