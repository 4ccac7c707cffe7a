#!/usr/bin/env bash
# One run on several machines with Slurm: a task a machine, torchrun starts a process a GPU on each.
#
# Usage: sbatch examples/slurm.sh PRESET DATA RUN
# DATA and RUN lie on a disk that all machines share. A job that is cut short (time limit, preemption, a lost machine)
# goes on where it was: Slurm puts it back into the queue, and the run's folder says how far it came.
#SBATCH --job-name=guidino
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Five minutes before the limit every step gets SIGTERM: guidino finishes its step and saves.
#SBATCH --signal=TERM@300
set -euo pipefail
preset=$1 data=$2 run=$3
gpus=${SLURM_GPUS_ON_NODE:-4}

words=(train --data "$data" -o "$run" --offline)
if compgen -G "$run/last/*.pt" > /dev/null; then
    words+=(--resume)
else
    words+=(--preset "$preset" --overwrite)
fi

# Threads of all processes of a machine share its cores.
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / gpus))
export MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# --max-restarts: if one process is lost, all start again and go on from the last state.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$gpus" --max-restarts 3 \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$MASTER:29500" \
    -m guidino_cli "${words[@]}"

# Several seeds: an array instead, one run each, then the table.
#   sbatch --array=0-2 --nodes=1 --wrap='guidino train -p PRESET -d DATA --seed $SLURM_ARRAY_TASK_ID -o OUT/seed-$SLURM_ARRAY_TASK_ID --devices 4'
#   guidino train -p PRESET -d DATA --seeds 3 -o OUT --resume
