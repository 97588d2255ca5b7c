#!/bin/sh
# Fails when an object of the product has a writable global or static variable that
# tests/lint/globals.allow does not list ("folder/file.c symbol"). OUT, from the Makefile, holds the objects.
# Constant tables with addresses in them (.data.rel.ro) are not writable once the program runs.
set -eu
out=${OUT:-build}
allow=tests/lint/globals.allow

objects=$(find common broker worker -name '*.c' 2>/dev/null | LC_ALL=C sort |
    while read -r source; do
        [ ! -f "$out/${source%.c}.o" ] || echo "$out/${source%.c}.o"
    done)
if [ -z "$objects" ]; then
    echo "globals: no objects under $out; build first"
    exit 1
fi
# shellcheck disable=SC2086
nm -A -f sysv $objects | awk -F'|' -v out="$out/" -v allow="$allow" '
    BEGIN {
        while ((getline line < allow) > 0)
            if (line !~ /^#/ && split(line, word, " ") >= 2) allowed[word[1], word[2]] = 1
    }
    $NF ~ /^[ \t]*(\.data|\.bss|\.tdata|\.tbss|\*COM\*)/ && $NF !~ /\.data\.rel\.ro/ {
        split($1, part, ":")
        file = substr(part[1], length(out) + 1)
        sub(/\.o$/, ".c", file)
        symbol = part[2]
        gsub(/[ \t]/, "", symbol)
        sub(/\.[0-9]+$/, "", symbol)
        section = $NF
        gsub(/[ \t]/, "", section)
        if (symbol ~ /^\./ || (file, symbol) in allowed) next
        print file ": writable global " symbol " (" section ")"
        bad = 1
    }
    END { exit bad }'
