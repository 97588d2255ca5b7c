#!/bin/sh
# Fails on a file over 700 lines or a function over 70; speaks of files over 400 and functions over 50 when
# SIZES_VERBOSE is set. A C function runs from the brace in the first column to the closing one there, which
# is what our brace style gives to functions alone; a Lua function from "function" to "end" there.
set -eu
find common broker worker tests \( -name node_modules -o -name corpus \) -prune -o \
    \( -name '*.[ch]' -o -name '*.lua' -o -name '*.sh' -o -name '*.py' \) -type f -print 2>/dev/null |
    LC_ALL=C sort | xargs -r awk -v verbose="${SIZES_VERBOSE:-}" '
    function file_end() {
        if (lines > 700) { print file ": " lines " lines, at most 700"; bad = 1 }
        else if (lines > 400 && verbose != "") print file ": " lines " lines, over the soft limit of 400"
    }
    function function_end(count) {
        if (count > 70) { print file ":" start ": function of " count " lines, at most 70"; bad = 1 }
        else if (count > 50 && verbose != "") print file ":" start ": function of " count " lines, over the soft limit of 50"
    }
    FNR == 1 {
        if (NR > 1) file_end()
        file = FILENAME; open = 0
        c = file ~ /\.[ch]$/; lua = file ~ /\.lua$/
    }
    { lines = FNR }
    c && /^\{/ { start = FNR; open = 1; next }
    c && open && /^\}/ { function_end(FNR - start); open = 0 }
    lua && /^(local +)?function / { start = FNR; open = 1; next }
    lua && open && /^end/ { function_end(FNR - start); open = 0 }
    END { if (NR > 0) file_end(); exit bad }'
