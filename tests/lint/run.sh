#!/usr/bin/env bash
# run.sh RESULTS
#
# Run every lint; each counts as one test. The totals go to the file RESULTS as "passed failed".
set -uo pipefail
results=$1
mkdir -p "$(dirname "$results")"
rm -f "$results"

passed=0 failed=0
for name in layers headers globals sizes states banned config_docs words format selftest; do
    if output=$(timeout -k 5 300 "tests/lint/$name.sh" 2>&1); then
        echo "  PASS  $name"
        passed=$((passed + 1))
    else
        echo "  FAIL  $name"
        failed=$((failed + 1))
    fi
    [[ -z $output ]] || sed 's/^/        /' <<<"$output"
done
echo "$passed $failed" >"$results"
echo "lint: $passed passed, $failed failed"
((failed == 0))
