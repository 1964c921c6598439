#!/bin/bash
#SBATCH --job-name=gan-lib-sweep
#SBATCH --array=0-16
#SBATCH --cpus-per-task=1
#SBATCH --gres=gpu:1
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=gan-lib-sweep-%A_%a.log
# A sweep as one array of jobs, for sites that want no jobs from compute nodes:
#   sbatch notebooks/guide/slurm/array.sh NAME      (in the project's folder, which all nodes see)
# The first job holds the scheduler and writes the tables, the others are workers: they may begin late, and
# may be ended. All of it again after the time is over goes on with what is missing.
set -euo pipefail
sweep=${1:?the name of a sweep, or its file}
file=data/runs/scheduler-$SLURM_ARRAY_JOB_ID.json
mkdir -p data/runs
[ ! -f .venv/bin/activate ] || source .venv/bin/activate
if [ "$SLURM_ARRAY_TASK_ID" = "$SLURM_ARRAY_TASK_MIN" ]; then
  dask scheduler --scheduler-file "$file" --port 0 &
  trap "kill $! || true; rm -f '$file'" EXIT
  until [ -s "$file" ]; do sleep 1; done
  gan-lib sweep "$sweep" --cluster "$file"
else
  exec dask worker --scheduler-file "$file" --nthreads 1 --death-timeout 300
fi
