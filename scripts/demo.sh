#!/usr/bin/env bash
# usage: scripts/demo.sh [DIR]    from a fresh checkout to a trained adapter: set up, build, make a data set and a small
# model, train. Everything it makes lies in DIR (runs/demo).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-runs/demo}

scripts/setup.sh
scripts/build.sh release matrix
matrix=build/release/bin/matrix

[ -d "$out/data" ] || "$matrix" synth --out "$out/data" --clips 24 --seed 1
[ -d "$out/model" ] || "$matrix" init --preset tiny --out "$out/model" --seed 1
"$matrix" train --config "$out/model/run.json" --set "model.path=$out/model" --set "data.path=$out/data" \
    --set "data.cache=$out/cache" --set "output=$out/run"
echo "the adapter, for diffusers and others: $out/run/adapter"
