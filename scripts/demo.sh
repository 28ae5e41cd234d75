#!/usr/bin/env bash
# usage: scripts/demo.sh [DIR]    from a fresh checkout to a trained adapter: set up, build, make a data set and a small
# random model, train with LoRA + SGA + SPA. Everything it makes lies in DIR (runs/demo). SEED=2 scripts/demo.sh: another
# run. CONTROL=1 scripts/demo.sh DIR: both alignment losses weigh nothing, so the attention scores should stay by chance.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-runs/demo}
seed=${SEED:-1}

scripts/setup.sh
scripts/build.sh release matrix
matrix=build/release/bin/matrix

[ -d "$out/train" ] || "$matrix" synth --out "$out/train" --clips 32 --seed "$((2 * seed))"
[ -d "$out/heldout" ] || "$matrix" synth --out "$out/heldout" --clips 16 --seed "$((2 * seed + 1))"
[ -d "$out/model" ] || "$matrix" init --preset tiny --out "$out/model" --seed "$seed"
settings=("model.path=$out/model" "data.path=$out/train" "data.cache=$out/cache" "validation.data=$out/heldout"
    validation.every_steps=260 validation.samples.every_steps=1300 memory.checkpointing=false "train.seed=$seed"
    "output=$out/run")
if [ -n "${CONTROL:-}" ]; then
    settings+=(alignment.sga.weight=0 alignment.spa.weight=0)
fi
"$matrix" train --config "$out/model/run.json" --resume auto "${settings[@]/#/--set=}"

echo "look at:  $out/run/pictures/   $out/run/samples/   tensorboard --logdir $out/run/tensorboard"
echo "load it:  $out/run/adapter/    (docs/formats.md says how, in diffusers)"
