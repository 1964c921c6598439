#!/bin/bash
#SBATCH --job-name=gan-lib-figures
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --output=gan-lib-figures-%j.log
# All figures at the paper's sizes on one GPU, packed with their manifest, which names the device:
#   sbatch notebooks/guide/slurm/figures.sh [FOLDER]   (in the project's folder; FOLDER receives the archive)
set -euo pipefail
make figures PROFILE=gpu
tar --create --gzip --file "${1:-.}/figures-gpu-$SLURM_JOB_ID.tar.gz" figures/gpu figures/manifest.json
