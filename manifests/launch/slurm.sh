#!/bin/bash
# One training run as a SLURM job that goes on by itself when its time is over.
#
#   sbatch --nodes 2 slurm.sh --workspace /data/ws --stage pretrain --config paper
#
# What follows the script's name goes to `cslm-train run`, in one process for each GPU. Ten minutes
# before its time limit SLURM sends USR1 to this script, which hands it on: the processes finish
# their step, save a checkpoint and end, and the job goes back into the queue. When it starts
# again, on as many nodes as it is given then, the same command goes on after that checkpoint.
# The lines below are for 8 GPUs a node; options of sbatch go before them. docs/clusters.md says more.
#SBATCH --job-name=cslm-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER_ADDR=${hosts[0]}
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT

# What torchrun would tell each process, SLURM knows. A process that dies ends the others.
process='
    export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS
    export LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
    exec cslm-train run "$@"'
srun --kill-on-bad-exit=1 bash -c "$process" cslm-train "$@" &
processes=$!

again=no
trap 'again=yes; kill -USR1 "$processes"' USR1
trap 'kill -TERM "$processes"' TERM
# A signal interrupts `wait`, not what it waits for.
while kill -0 "$processes" 2>/dev/null; do
    wait "$processes"
done
wait "$processes"
code=$?

if [ "$again" = yes ] && [ "$code" -eq 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
