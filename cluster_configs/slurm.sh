#!/usr/bin/env bash
# One distreid run over several Slurm nodes; queue it again with --resume when its time runs out.
#   sbatch cluster_configs/slurm.sh jobs/daam/market-to-msmt17.yaml output=/shared/runs/a source.data=... target.data=... [--resume]
#SBATCH --job-name=distreid
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --time=24:00:00
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?run this with sbatch}"
# shellcheck source=/dev/null
source .venv/bin/activate # of make install-gpu

# A token for this job alone: in its environment, in no file.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_address=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))
workers=$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-1}))

# Starts Ray on every node, runs the command on the first, and stops Ray on all of them when it ends.
srun --kill-on-bad-exit=1 ray symmetric-run --address "$head_address:$port" --min-nodes "$SLURM_NNODES" -- \
    python jobs/train.py "$@" "runtime.workers=$workers" runtime.gpu=yes
