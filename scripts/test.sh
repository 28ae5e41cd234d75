#!/usr/bin/env bash
# usage: scripts/test.sh    set up, build the release preset, run every test: C++ first, then the Python ones, which
# hold scripts/ and the program against the libraries that it exchanges files with
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh --python
scripts/build.sh release

# Python's tests mostly wait for one thread of the program: a file at a time on each core, four at most for the memory.
workers=$(($(nproc) < 4 ? $(nproc) : 4))

# Both suites run whatever the other says; the status is the worse one.
status=0
ctest --preset release --parallel "$(nproc)" || status=1
MATRIX="$PWD/build/release/bin/matrix" OMP_NUM_THREADS=1 \
    "${XDG_CACHE_HOME:-$HOME/.cache}/matrix.cpp/python/bin/python" -m pytest -p no:cacheprovider -q \
    -n "$workers" --dist loadfile tests || status=1
exit $status
