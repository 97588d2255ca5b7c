#!/usr/bin/env bash
# Fails when a header does not compile alone, has no guard, or is longer than 200 lines.
# CC and LINT_CFLAGS come from the Makefile.
set -u
LINES_MAX=200
export CC=${CC:-cc} LINT_CFLAGS=${LINT_CFLAGS:--std=c11 -D_GNU_SOURCE -I.}

headers() { find common broker worker tests/unit tests/sim -name '*.h' 2>/dev/null | LC_ALL=C sort; }

headers | xargs -r awk -v max=$LINES_MAX '
    FNR == 1 && NR > 1 { report() }
    { file = FILENAME; lines = FNR }
    FNR == 1 { guarded = 0 }
    /^#[ \t]*(pragma once|ifndef)/ { guarded = 1 }
    function report() {
        if (lines > max) { print file ": " lines " lines, a header has at most " max; bad = 1 }
        if (!guarded) { print file ": no include guard"; bad = 1 }
    }
    END { if (NR > 0) report(); exit bad }'
status=$?

check_one() {
    # The flags were put together by the Makefile for a shell to split.
    if ! printf '#include "%s"\nextern int header_stands_alone;\n' "$1" | eval "$CC $LINT_CFLAGS -Werror -fsyntax-only -x c -" 2>&1; then
        echo "$1: does not compile alone"
        return 1
    fi
}
export -f check_one
headers | xargs -r -P "$(nproc)" -n 1 bash -c 'check_one "$0"' || status=1
exit $status
