#!/usr/bin/env bash
# One search on nodes of Slurm: sbatch --nodes=4 --gpus-per-node=4 cluster/slurm/search.sh SPEC [OPTIONS OF tuner run]
# Two minutes before the time is over, or when the job is preempted, the search is ended as ctrl-C ends it; Slurm queues
# the job again, and it goes on where it was.
#SBATCH --job-name=tuner
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if [ $# -eq 0 ]; then
  echo "usage: sbatch search.sh SPEC [OPTIONS OF tuner run]; the results' folder is \$TUNER_RESULTS" >&2
  exit 2
fi
: "${TUNER_RESULTS:?set it to a folder that every node sees}"

export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
export RAY_health_check_timeout_ms=5000 RAY_health_check_failure_threshold=3 # see README.md, A node that is cut off
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
  (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000)) # several jobs may meet on a node
address="${nodes[0]}:$port"
cpus="${SLURM_CPUS_ON_NODE:?}"
gpus="${SLURM_GPUS_ON_NODE:-0}"
common=(--block --num-cpus="$cpus" --num-gpus="$gpus" --disable-usage-stats)

steps=()
finish() {
  trap - EXIT
  for step in "${steps[@]}"; do kill "$step" 2>/dev/null || true; done
  wait
}
trap finish EXIT

srun --overlap --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" \
  ray start --head --port="$port" --include-dashboard=false "${common[@]}" &
steps+=($!)
for _ in $(seq 60); do
  ray health-check --address "$address" >/dev/null 2>&1 && break
  sleep 2
done
for node in "${nodes[@]:1}"; do
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" ray start --address="$address" "${common[@]}" &
  steps+=($!)
done

tuner run "$@" --ray-address "$address" --results "$TUNER_RESULTS" &
search=$!
stopped=
trap 'stopped=yes; kill -TERM "$search" 2>/dev/null || true' TERM INT
code=0
wait "$search" || code=$?
while kill -0 "$search" 2>/dev/null; do # a signal ends wait, not the search, which has to write its ledger
  code=0
  wait "$search" || code=$?
done
finish
if [ -n "$stopped" ] && [ "$code" -ne 0 ] && [ "$code" -ne 2 ]; then
  scontrol requeue "$SLURM_JOB_ID" || true
fi
exit "$code"
