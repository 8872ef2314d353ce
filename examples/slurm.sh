#!/bin/bash
# Trains on two nodes. `sbatch slurm.sh` again, or a requeue, goes on where the run stopped.
#SBATCH --nodes 2 --ntasks-per-node 1 --gpus-per-node 8 --time 24:00:00 --requeue --signal TERM@120
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # or new processes wait for those that died
srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 8 --max-restarts 3 \
  --rdzv_backend c10d --rdzv_endpoint "$head:29500" --rdzv_id "$SLURM_JOB_ID" \
  -m vitgan train cifar10 --folder runs/cifar10
