#!/usr/bin/env bash
# Every suite, one after the other; what `make test` runs once the dependencies are there. A suite's output is
# shown when it fails (all of it with V=1). The last line is "N passed, N failed", and the exit status says
# whether anything failed. A suite that runs no test has failed.
set -uo pipefail
make=${MAKE:-make}
build=${BUILD:-build}
san=$build/san-address-undefined
jobs=$(nproc)
logs=$build/results/logs
mkdir -p "$logs"

total_passed=0 total_failed=0
started=$SECONDS

suite() { # name file-with-totals make-arguments...
    local name=$1 results=$2 log=$logs/$1.log from=$SECONDS passed=0 failed=0 status=0
    shift 2
    rm -f "$results"
    printf '%-16s ' "$name"
    $make BUILD="$build" "$@" >"$log" 2>&1 </dev/null || status=$?
    if [[ -s $results ]]; then
        read -r passed failed <"$results"
    fi
    if ((passed + failed == 0)) || ((status != 0 && failed == 0)); then
        failed=$((failed + 1))
    fi
    printf '%5d passed, %d failed  (%d s)\n' "$passed" "$failed" $((SECONDS - from))
    if ((failed > 0)) || [[ -n ${V:-} ]]; then
        sed 's/^/    /' "$log"
    fi
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
}

finish() {
    echo "all suites: $((SECONDS - started)) s"
    echo "$total_passed passed, $total_failed failed"
    ((total_failed == 0))
    exit
}

echo "building with and without sanitizers, and with failpoints"
for arguments in "all unit-programs" "SAN=address,undefined all unit-programs" "failpoint-programs"; do
    # shellcheck disable=SC2086
    if ! $make BUILD="$build" -j"$jobs" $arguments >"$logs/build.log" 2>&1; then
        cat "$logs/build.log"
        total_failed=1
        finish
    fi
    grep -A8 'warning:' "$logs/build.log"
done
if ! $make BUILD="$build" tests-deps >"$logs/tests-deps.log" 2>&1; then
    cat "$logs/tests-deps.log"
    total_failed=1
    finish
fi

suite lint "$build/results/lint" lint
suite unit "$build/results/unit" unit
suite model "$build/results/model" model HISTORIES=10000 SEED=0
suite sim "$build/results/sim" simtest
suite e2e "$build/results/e2e" e2e
suite faults "$build/results/faults" faults-smoke
suite sanitized-unit "$san/results/unit" SAN=address,undefined unit
suite sanitized-fuzz "$san/results/fuzz" SAN=address,undefined fuzz-replay
suite sanitized-sim "$san/results/sim" SAN=address,undefined simtest
suite sanitized-e2e "$san/results/e2e" SAN=address,undefined e2e
finish
