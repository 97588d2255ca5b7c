#!/usr/bin/env bash
# pytest.sh VENV RESULTS SECONDS_MAX FOLDER [PYTEST_ARGUMENTS...]
#
# Run one Python suite with a limit on the whole and on each test. The totals go to the file RESULTS as
# "passed failed". A skipped test counts as failed: what does not run proves nothing.
set -uo pipefail
venv=$1 results=$2 seconds_max=$3 folder=$4
shift 4
mkdir -p "$(dirname "$results")"
rm -f "$results" "$results.xml"

export PYTHONDONTWRITEBYTECODE=1
timeout -k 20 "$seconds_max" "$venv/bin/python" -m pytest -q -ra -p no:cacheprovider --timeout=300 \
    --junitxml="$results.xml" "$@" "$folder"
status=$?
((status == 124 || status == 137)) && echo "$folder: stopped after $seconds_max s"

"$venv/bin/python" - "$results.xml" "$status" >"$results" <<'PY'
import sys
import xml.etree.ElementTree as tree

passed = failed = 0
try:
    for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
        if any(case.find(tag) is not None for tag in ("failure", "error", "skipped")):
            failed += 1
        else:
            passed += 1
except (OSError, tree.ParseError):
    pass
if passed + failed == 0 or (int(sys.argv[2]) != 0 and failed == 0):
    failed += 1
print(passed, failed)
PY
read -r passed failed <"$results"
echo "$folder: $passed passed, $failed failed"
((failed == 0))
