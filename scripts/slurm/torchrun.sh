#!/usr/bin/env bash
# The same as srun.sh, for sites that start everything by torchrun: one torchrun on each node starts a process for each
# GPU. It needs a Python environment with torch on the nodes; the program itself needs none.
#
#   sbatch --nodes=2 scripts/slurm/torchrun.sh --config configs/5b-i2v-2x8gpu.json
#
# torchrun exits with 1 whatever its processes exited with. So this script alone takes Slurm's warning, passes it to the
# steps, and remembers it.
#SBATCH --job-name=matrix
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${SLURM_JOB_ID:?is not set: submit this with sbatch}"
matrix=$(command -v "${MATRIX:-matrix}") || {
    echo "torchrun.sh: ${MATRIX:-matrix}: no such program; set MATRIX, or put it on the PATH" >&2
    exit 1
}

warned=false interrupted=true
trap 'warned=true interrupted=true; scancel --signal=USR1 "$SLURM_JOB_ID"' USR1
trap 'warned=true interrupted=true' TERM

# Slurm's signals reach every process of a step. torchrun must not act on them: it would send them on, and a second
# signal ends the program at once. It ignores them, the program does not.
# shellcheck disable=SC2016 # expanded on the nodes
run_torchrun=(bash -c 'trap "" USR1 TERM; exec torchrun --node-rank="$SLURM_NODEID" "$@"' torchrun
    --no-python --signals-to-handle=SIGINT
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:?is not set: ask for GPUs}"
    --master-addr="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
    --master-port=$((10000 + SLURM_JOB_ID % 20000)))

srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=900 \
    "${run_torchrun[@]}" "$matrix" train --resume auto "$@" &
while $interrupted; do # `wait` returns at a signal, too
    interrupted=false status=0
    wait $! || status=$?
done

if $warned && [ "$status" -ne 0 ]; then
    if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
        echo "torchrun.sh: saved after a signal; back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$status"
