#!/usr/bin/env bash
# A training job of Slurm's: one node or several, one process for each GPU, started by srun.
#
#   sbatch scripts/slurm/srun.sh --config configs/5b-i2v-8gpu.json
#   sbatch --nodes=2 scripts/slurm/srun.sh --config configs/5b-i2v-2x8gpu.json
#   sbatch --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm/srun.sh --config configs/5b-i2v-4gpu.json
#
# What follows the script goes to `matrix train`, with --resume auto. The program is $MATRIX, or `matrix` on the PATH.
# 180 seconds before the time limit Slurm sends SIGUSR1: the run saves after its step, exits with 128 + the signal's
# number, and the job is put back into the queue, to go on from there. Make it more if a step and a checkpoint take more.
#SBATCH --job-name=matrix
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

: "${SLURM_JOB_ID:?is not set: submit this with sbatch}"
matrix=$(command -v "${MATRIX:-matrix}") || {
    echo "srun.sh: ${MATRIX:-matrix}: no such program; set MATRIX, or put it on the PATH" >&2
    exit 1
}

# A signal for the whole job comes here too: stay until srun has ended. (With `trap ''` srun would not hear it either.)
trap : USR1 TERM

# A rank that is done waits for none: the others may still be writing the checkpoint. One that died leaves the others
# to their own timeouts, and 900 seconds at most.
status=0
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 --wait=900 \
    "$matrix" train --resume auto "$@" || status=$?

# 138: SIGUSR1, 143: SIGTERM. A job that was cancelled by hand is no longer RUNNING and stays cancelled.
if [ $status -eq 138 ] || [ $status -eq 143 ]; then
    if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
        echo "srun.sh: saved after a signal ($status); back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit $status
