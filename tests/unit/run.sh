#!/usr/bin/env bash
# run.sh RESULTS PROGRAM...
#
# Run unit test programs one after the other, each in a folder of its own and with a time limit, beside one
# private redis-server on a unix socket (PENSTOCK_TEST_REDIS). Output is shown of failures only. The totals
# go to the file RESULTS as "passed failed", counted in test functions.
set -uo pipefail

TEST_SECONDS_MAX=120
results=$1
shift
root=$PWD
mkdir -p "$(dirname "$results")"
rm -f "$results"

temp=$(mktemp -d "${TMPDIR:-/tmp}/penstock-unit.XXXXXX")
redis_pid=
finish() {
    if [[ -n $redis_pid ]]; then
        kill "$redis_pid" 2>/dev/null
        wait "$redis_pid" 2>/dev/null
    fi
    rm -rf "$temp"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start_redis() {
    redis-server --port 0 --unixsocket "$temp/redis.sock" --unixsocketperm 700 --dir "$temp" \
        --appendonly no --save '' --maxmemory-policy noeviction --logfile "$temp/redis.log" &
    redis_pid=$!
    for _ in $(seq 200); do
        if [[ $(redis-cli -s "$temp/redis.sock" ping 2>/dev/null) == PONG ]]; then
            export PENSTOCK_TEST_REDIS=unix://$temp/redis.sock
            return 0
        fi
        kill -0 "$redis_pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "unit: redis-server does not start:" >&2
    cat "$temp/redis.log" >&2
    return 1
}

if ! command -v redis-server >/dev/null || ! start_redis; then
    echo "unit: no redis-server, no unit tests (deploy/install-deps.sh --test)" >&2
    echo "0 1" >"$results"
    exit 1
fi

# cmocka prints "[  PASSED  ] N test(s)." and "[  FAILED  ] N test(s)…", to either stream by version.
count() { # word log
    sed -n "s/^\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$2" | awk '{sum += $1} END {print sum + 0}'
}

passed=0 failed=0
for program; do
    name=${program#*tests/unit/}
    log=$temp/log
    mkdir -p "$temp/tmp"
    TMPDIR=$temp/tmp timeout -k 5 "$TEST_SECONDS_MAX" "$program" >"$log" 2>&1 </dev/null
    status=$?
    good=$(count PASSED "$log")
    bad=$(count FAILED "$log")
    skipped=$(count SKIPPED "$log")
    # A test that does not run proves nothing; a program may die before it can count, or count nothing.
    bad=$((bad + skipped))
    if ((status != 0 && bad == 0)) || ((good + bad == 0)); then
        bad=$((bad + 1))
    fi
    if ((bad > 0)); then
        echo "  FAIL  $name ($good passed, $bad failed, exit $status)"
        ((status == 124 || status == 137)) && echo "        stopped after $TEST_SECONDS_MAX s"
        sed 's/^/        /' "$log"
    else
        echo "  PASS  $name ($good)"
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    cd "$root" && rm -rf "$temp/tmp"
done

((passed + failed > 0)) || { echo "unit: no tests were run"; failed=1; }
echo "$passed $failed" >"$results"
echo "unit: $passed passed, $failed failed"
((failed == 0))
