#!/usr/bin/env bash
# run.sh RESULTS PROGRAM HISTORIES SEED
#
# Random histories of the queue's functions beside the model, shared by as many processes as there are processors, each
# with a Redis of its own. SEED 0 draws one. History n has the seed SEED + n, whoever runs it. The totals go to the
# file RESULTS as "passed failed", counted in histories.
set -uo pipefail
PROCESSES_MAX=8
HISTORIES_MIN=2500 # a process with fewer meets too little to judge by
results=$1 program=$2 histories=$3 seed=$4
mkdir -p "$(dirname "$results")"
rm -f "$results"

((seed > 0)) || seed=$((RANDOM * 32768 * 32768 + RANDOM * 32768 + RANDOM + 1))
count=$(nproc)
((count <= PROCESSES_MAX)) || count=$PROCESSES_MAX
while ((count > 1 && histories / count < HISTORIES_MIN)); do count=$((count - 1)); done

logs=$(mktemp -d) pids=()
trap 'rm -rf "$logs"' EXIT
trap '((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null; exit 130' INT TERM
from=$seed
for ((n = 0; n < count; n++)); do
    share=$((histories / count + (n < histories % count ? 1 : 0)))
    "$program" "$share" "$from" >"$logs/$n" 2>&1 &
    pids+=($!)
    from=$((from + share))
done
failed=0
for ((n = 0; n < count; n++)); do
    wait "${pids[n]}" || failed=$((failed + 1))
done
pids=()
cat "$logs"/*
echo "$((failed > 0 ? 0 : histories)) $failed" >"$results"
echo "model: $histories histories from seed $seed, $count processes, $SECONDS s, $failed failed"
((failed == 0))
