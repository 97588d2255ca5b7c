#!/usr/bin/env bash
# demo.sh: the whole of Penstock in one go, on this machine and nothing else.
#
# Starts the stack with `penstock up` in a folder of its own, runs the two example files, says where the
# results are, and stops everything. The upstream is the built-in simulator (3 s a call), which never
# spends money; DEMO_UPSTREAM=auto uses what `penstock up` finds instead (DEMO_MODEL, DEMO_EMBEDDING_MODEL
# name the models then).
set -euo pipefail

bin=${PENSTOCK_BIN_DIR:-build/bin}
unset PENSTOCK_BIN_DIR # the programs refuse variables that name no setting
examples=$(dirname "$0")/../docs/examples
results=${DEMO_RESULTS:-build/demo}
data=$(mktemp -d "${TMPDIR:-/tmp}/penstock-demo.XXXXXX")
up_pid=

finish() {
    status=$?
    trap - EXIT INT TERM
    if [[ -n $up_pid ]]; then
        kill -TERM "$up_pid" 2>/dev/null || true
        wait "$up_pid" || status=$?
    fi
    rm -rf "$data"
    exit "$status"
}
trap finish EXIT INT TERM

flags=(--data-dir "$data" --port 0 --json)
[[ ${DEMO_UPSTREAM:-} == auto ]] || flags+=(--simulate --sim-delay-ms 3000)

echo "starting Redis, broker, workers$([[ ${DEMO_UPSTREAM:-} == auto ]] || echo " and the simulator (3 s a call)")"
coproc UP { exec "$bin/penstock" up "${flags[@]}"; }
up_pid=$UP_PID
read -r -t 60 line <&"${UP[0]}" || { echo "demo: the stack did not start" >&2; exit 1; }
field() { sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" <<<"$line"; }
PENSTOCK_URL=$(field url) PENSTOCK_API_KEY=$(field api_key)
export PENSTOCK_URL PENSTOCK_API_KEY
mkdir -p "$results"

run() { # name, what it is, model
    echo
    echo "== $2"
    local text old='"model": "sim-model"' new="\"model\": \"$3\""
    text=$(<"$examples/$1.jsonl")
    printf '%s\n' "${text//"$old"/"$new"}" >"$data/$1.jsonl"
    "$bin/penstock" bulk "$data/$1.jsonl" --ordered -o "$results/$1.results.jsonl"
    echo "results: $results/$1.results.jsonl"
}

model=$(field model)
run generation "15 generation jobs" "${DEMO_MODEL:-$model}"
run embedding "100 embedding jobs" "${DEMO_EMBEDDING_MODEL:-$model}"
echo
echo "stopping"
