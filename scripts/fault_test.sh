#!/usr/bin/env bash
# usage: scripts/fault_test.sh [KILLS]    the long form of tests/e2e/test_faults.py: kills processes of a run KILLS times
# (20), also while a checkpoint is being written, and compares the resumed run with an undisturbed one bit by bit
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh --python
scripts/build.sh release matrix
MATRIX_FAULTS=${1:-20} MATRIX="$PWD/build/release/bin/matrix" OMP_NUM_THREADS=1 \
    "${XDG_CACHE_HOME:-$HOME/.cache}/matrix.cpp/python/bin/python" -m pytest -p no:cacheprovider -v tests/e2e/test_faults.py
