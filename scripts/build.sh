#!/usr/bin/env bash
# usage: scripts/build.sh PRESET [TARGET...]    configure and build a preset of CMakePresets.json in build/PRESET
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:?usage: scripts/build.sh PRESET [TARGET...]}
shift
# A file that includes ATen takes up to 1 GB to compile: as many jobs as cores, but 1.5 GB of free memory each.
jobs=$(awk -v cores="$(nproc)" '/^MemAvailable/ { n = int($2 / 1.5e6); print n < 1 ? 1 : n < cores ? n : cores }' \
    /proc/meminfo)
[ -f "build/$preset/build.ninja" ] || cmake --preset "$preset"
ninja -C "build/$preset" -j "$jobs" "$@"
