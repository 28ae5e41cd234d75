#!/usr/bin/env bash
# Everything that is to be shown on an NVIDIA GPU, in calls of under ten minutes each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'TEXT'
usage: benchmarks/gpu.sh [STAGE...]

Without a stage all of them but train, in this order; each ends after ten minutes at most, and a later call goes on with the next:

  build   the cuda preset from source (scripts/setup.sh --cuda first); where it is cut off, call it again
  check   correctness: every fused kernel and every attention against the CPU, a training run against PyTorch's, a step
          that waits for nothing, NCCL with one rank
  parity  the probe's networks, readouts, losses and samplers on the GPU against diffusers and PyTorch on the CPU, where
          $PYTHON has them
  train   the demo's run, from the cache that scripts/demo.sh left in $DEMO (runs/demo), in float32 and bfloat16
  rates   what the device does at most: a square matrix product and attention at the 5B model's size
  step    a training step of the 5B model at 49 x 480 x 720, bfloat16, LoRA on 7, 11 and 12 and the input projection,
          for each policy of memory
  peer    eight blocks of that size: ours, and the same step in Python with diffusers and peft in turn, where $PYTHON
          (python3) has them

Results of the last four go to benchmarks/results/gpu/DATE-STAGE.json: a list of {"what", "exit", "result"}, where what does not fit or fails
has its last line as its result. Exit 1 where there is no GPU or a check fails.
TEXT
}

matrix=build/cuda/bin/matrix
results=benchmarks/results/gpu
python=${PYTHON:-python3}
model=(--dtype bfloat16 --device cuda --blocks "7,11,12" --input-projection full)

fail() {
    echo "benchmarks/gpu.sh: $1" >&2
    exit 1
}

# limited COMMAND...: until the stage's ten minutes are over.
limited() {
    local left=$((deadline - SECONDS))
    timeout "$((left > 1 ? left : 1))" "$@"
}

# record WHAT COMMAND...: runs a command that prints JSON and adds it to the stage's list.
record() {
    local what=$1 status=0 result
    shift
    echo "-- $what" >&2
    limited "$@" >"$work/out" 2>"$work/err" || status=$?
    if [ $status = 0 ]; then
        result=$(cat "$work/out")
    else
        tail -n 1 "$work/err" >&2
        result=$(tail -n 1 "$work/err" | tr -d '\\"' | tr '\t' ' ')
        result="\"$result\""
    fi
    [ ! -s "$work/list" ] || echo , >>"$work/list"
    printf '{"what": "%s", "exit": %d, "result": %s}\n' "$what" $status "$result" >>"$work/list"
    mkdir -p $results
    (echo '['; cat "$work/list"; echo ']') >"$results/$(date +%F)-$stage.json"
}

step() { # NAME FLAG...
    local name=$1
    shift
    record "$name" $matrix bench step --preset 5b-i2v "${model[@]}" --warmup 2 --steps 3 --json "$@"
}

build() {
    limited scripts/build.sh cuda matrix kernels_test train_test distributed_test
}

check() {
    local test
    for test in 'kernels_test --gtest_filter=*OnGpu*' 'train_test --gtest_filter=HostSync.*:Trajectory.*' \
        'distributed_test --gtest_filter=Nccl.*'; do
        # shellcheck disable=SC2086
        limited build/cuda/bin/$test || fail "check: $test fails"
    done
}

parity() {
    # The text encoder is not in this build.
    local parts=(probe_transformer.py probe_alignment.py probe_objective.py probe_sampling.py perturbed_sampling.py
        probe_encoders.py::test_vae_encode probe_encoders.py::test_vae_in_bfloat16)
    MATRIX=$PWD/$matrix MATRIX_DEVICE=cuda limited "$python" -m pytest -q -p no:cacheprovider -n 8 \
        "${parts[@]/#/tests/interop/test_}" || fail "parity: a test fails"
}

rates() {
    local rates=(--preset 5b-i2v --device cuda --warmup 2 --steps 10 --json)
    record "attention, bfloat16" $matrix bench attention "${rates[@]}" --dtype bfloat16
    record "attention, float32" $matrix bench attention "${rates[@]}" --dtype float32
    record "forward, bfloat16" $matrix bench forward "${rates[@]}" --dtype bfloat16
    record "VAE, bfloat16" $matrix bench vae --preset 5b-i2v --device cuda --dtype bfloat16 --warmup 1 --steps 3 --json
    record "SGA + SPA on a block" $matrix bench readout "${rates[@]}" --dtype bfloat16
}

steps() {
    step "A: input, attention, log-sum-exp" --checkpointing on
    step "A with SGA + SPA" --checkpointing on --sga-blocks 7,11 --spa-blocks 12
    step "N: every product" --checkpointing off
    step "F: all but GELU's input" --activation-budget-gib 28
    step "X: input" --activation-budget-gib 5
    step "A, streamed" --checkpointing on --base streamed
    step "X, streamed" --activation-budget-gib 5 --base streamed
    step "A, fp8" --checkpointing on --base fp8
    step "A, fp8 products" --checkpointing on --base fp8 --fp8-matmul
}

train() {
    local demo=${DEMO:-runs/demo} dtype
    local settings=("model.path=$demo/model" "data.path=$demo/train" "data.cache=$demo/cache" model.device=cuda
        "validation.data=$demo/heldout" validation.every_steps=260 memory.checkpointing=false train.seed=1
        "output=$work/run")
    for dtype in float32 bfloat16; do
        rm -rf "$work/run"
        # shellcheck disable=SC2016
        record "demo, $dtype" bash -c '"$@" >&2 && tail -n 1 "$0/run/metrics.jsonl"' "$work" $matrix train \
            --config "$demo/model/run.json" "${settings[@]/#/--set=}" --set "model.dtype=$dtype"
    done
}

peer() {
    "$python" -c 'import torch, diffusers, peft' 2>/dev/null ||
        fail "peer: $python has no torch, diffusers and peft; name one that has in PYTHON"
    local shape=layers=8,heads=48,head_dim=64,frames=13,height=60,width=90
    local ours=("$matrix" bench step --shape "$shape" --dtype bfloat16 --device cuda --blocks "5,6,7" --json)
    local theirs=("$python" benchmarks/peer.py "$work/inputs" --device cuda --warmup 3 --steps 8)
    record "inputs" "${ours[@]}" --warmup 0 --steps 1 --sga-blocks 5,6 --spa-blocks 7 --write-inputs "$work/inputs"
    local policy
    for policy in on off; do
        record "ours, checkpointing $policy" "${ours[@]}" --checkpointing $policy --warmup 3 --steps 8
    done
    record "peer, eager --checkpointing, attention as PyTorch chooses it" "${theirs[@]}" --checkpointing
    for policy in --checkpointing "" --selective; do
        # shellcheck disable=SC2086
        record "peer, eager $policy" "${theirs[@]}" --cudnn $policy
    done
    record "ours, SGA + SPA" "${ours[@]}" --checkpointing on --warmup 3 --steps 8 --sga-blocks 5,6 --spa-blocks 7
    record "peer, SGA + SPA" "${theirs[@]}" --cudnn --checkpointing --alignment
    for policy in --checkpointing "" --selective; do
        # shellcheck disable=SC2086
        record "peer, compiled $policy" "${theirs[@]}" --cudnn --compile $policy
    done
}

stages=("$@")
[ $# -gt 0 ] || stages=(build check parity rates step peer)
for stage in "${stages[@]}"; do
    case $stage in
        build | check | parity | train | rates | step | peer) ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done
nvidia-smi -L 2>/dev/null | grep -q '^GPU ' || fail "no NVIDIA GPU here: nvidia-smi finds none"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for stage in "${stages[@]}"; do
    echo "== $stage"
    deadline=$((SECONDS + 590))
    : >"$work/list"
    if [ "$stage" = step ]; then steps; else "$stage"; fi
done
