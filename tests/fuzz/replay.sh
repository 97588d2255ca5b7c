#!/usr/bin/env bash
# replay.sh RESULTS PROGRAM...
#
# Run each replay_<target> over tests/fuzz/corpus/<target>; each counts as one test. A target without a corpus
# has failed. The totals go to the file RESULTS as "passed failed".
set -uo pipefail
TARGET_SECONDS_MAX=180
results=$1
shift
mkdir -p "$(dirname "$results")"
rm -f "$results"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
for program; do
    target=${program##*/replay_}
    if timeout -k 5 "$TARGET_SECONDS_MAX" "$program" "tests/fuzz/corpus/$target"/* >"$log" 2>&1; then
        echo "  PASS  $target"
        passed=$((passed + 1))
    else
        echo "  FAIL  $target (exit $?)"
        tail -n 60 "$log" | sed 's/^/        /'
        failed=$((failed + 1))
    fi
done
((passed + failed > 0)) || { echo "fuzz: there are no targets"; failed=1; }
echo "$passed $failed" >"$results"
echo "fuzz replay: $passed passed, $failed failed"
((failed == 0))
