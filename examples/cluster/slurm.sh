#!/usr/bin/env bash
# A run on SLURM: sbatch slurm.sh. Ray's head starts on the first node and the other nodes join it; the run starts beside
# the head and ends them all. The directory that it is submitted from is on a file system that all nodes share, and holds
# a virtual environment with spiral, its extras ray and vllm, and the plug-ins of the run.
#SBATCH --job-name=spiral
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
set -euo pipefail
source .venv/bin/activate
export HF_HUB_OFFLINE=1

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address="$(srun --nodes=1 --ntasks=1 -w "$head" hostname -I | awk '{print $1}'):6379"

srun --nodes=1 --ntasks=1 -w "$head" ray start --head --port=6379 --block &
for _ in $(seq 60); do ray status --address "$address" >/dev/null 2>&1 && break; sleep 2; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude "$head" \
    ray start --address "$address" --block &
fi

# Five minutes before the time is over SLURM sends SIGTERM: the step ends, a checkpoint is written, and the same command
# with --resume goes on.
run=runs/$SLURM_JOB_ID
export RAY_ADDRESS=$address
spiral train config.yaml --run-dir "$run" engine=vllm \
  "cluster={name: ray, args: {engines: all, engine_gpus: 1, staleness: 1, learners: 8, sharded: true, learner_gpus: 1}}" &
train=$!
trap 'kill -TERM "$train"' TERM
wait "$train" || wait "$train"
ray stop
