#!/usr/bin/env bash
# usage: scripts/demo_analysis.sh [DIR]    which layers' attention finds who does what to whom, before and after training:
# set up, build, train the demo's adapter in DIR (runs/demo) unless it is there, analyse base and adapter on held-out
# clips, and end with DIR/analysis/adapter/report.html, base and adapter side by side.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-runs/demo}

scripts/demo.sh "$out"
matrix=build/release/bin/matrix
"$matrix" analyze --model "$out/model" --data "$out/heldout" --out "$out/analysis/base" --label "base"
"$matrix" analyze --model "$out/model" --adapter "$out/run/adapter" --data "$out/heldout" \
    --out "$out/analysis/adapter" --label "adapter" --beside "$out/analysis/base"
