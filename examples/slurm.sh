#!/usr/bin/env bash
# One run on several machines with Slurm: one task per machine, where torchrun starts one process per GPU.
#
# Usage: sbatch examples/slurm.sh PRESET DATA RUN
# DATA and RUN must be on a disk that all machines share. A job that is interrupted (time limit, preemption, a lost
# machine) is resumed: Slurm requeues it, and the run folder holds its last state.
#SBATCH --job-name=guidino
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Five minutes before the limit, every process gets SIGTERM: guidino finishes its training step and saves.
#SBATCH --signal=TERM@300
set -euo pipefail
preset=$1 data=$2 run=$3
gpus=${SLURM_GPUS_ON_NODE:-4}

arguments=(train --data "$data" -o "$run" --offline)
if compgen -G "$run/last/*.pt" > /dev/null; then
    arguments+=(--resume)
else
    arguments+=(--preset "$preset" --overwrite)
fi

# The processes of a machine share its cores.
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / gpus))
export MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# --max-restarts: if one process is lost, all restart from the last saved state.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$gpus" --max-restarts 3 \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$MASTER:29500" \
    -m guidino_cli "${arguments[@]}"

# Several seeds: use a job array with one run each, then collect the table.
#   sbatch --array=0-2 --nodes=1 --wrap='guidino train -p PRESET -d DATA --seed $SLURM_ARRAY_TASK_ID -o OUT/seed-$SLURM_ARRAY_TASK_ID --devices 4'
#   guidino train -p PRESET -d DATA --seeds 3 -o OUT --resume
