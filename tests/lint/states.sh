#!/bin/sh
# Fails on an assignment to a field named state outside common/job/job.c, whose one setter refuses illegal
# arrows. Another state machine marks the one place that writes its own field, on that line or the one
# above, with the comment "lint: own state". An initializer that names a job state counts as an assignment.
set -eu
find common broker worker -name '*.[ch]' 2>/dev/null | LC_ALL=C sort | xargs -r awk '
    FNR == 1 { marked = 0 }
    FILENAME == "common/job/job.c" { next }
    {
        own = /lint: own state/
        if ((/[A-Za-z0-9_)\]](->|\.)state *=[^=]/ || /\.state *= *JOB_/ || /(->|\.)state *= *$/) && !own && !marked) {
            print FILENAME ":" FNR ": writes a state field outside its setter"
            bad = 1
        }
        marked = own
    }
    END { exit bad }'
