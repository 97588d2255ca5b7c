#!/bin/sh
# Fails on a call of a banned function outside its door; tests/lint/banned.allow names the doors
# ("folder/file.c function..."). Comments and strings do not count.
set -eu
find common broker worker -name '*.[ch]' 2>/dev/null | LC_ALL=C sort | xargs -r awk -v allow=tests/lint/banned.allow '
    BEGIN {
        names = "sprintf vsprintf strcpy stpcpy strcat strncat strtok strtok_r gets atoi atol atoll atof " \
                "strtol strtoll strtoul strtoull strtod strtof strtold strtoimax strtoumax alloca " \
                "sleep usleep nanosleep system popen getenv secure_getenv realloc reallocarray"
        count = split(names, list, " ")
        for (i = 1; i <= count; i++) banned[list[i]] = 1
        while ((getline line < allow) > 0) {
            if (line ~ /^#/) continue
            count = split(line, word, " ")
            for (i = 2; i <= count; i++) allowed[word[1], word[i]] = 1
        }
    }
    FNR == 1 { in_comment = 0 }
    {
        text = $0
        gsub(/\\./, "", text)
        gsub(/"[^"]*"/, "\"\"", text)
        if (in_comment) {
            if (!match(text, /\*\//)) next
            text = substr(text, RSTART + 2)
            in_comment = 0
        }
        while (match(text, /\/\*/)) {
            head = substr(text, 1, RSTART - 1)
            tail = substr(text, RSTART + 2)
            if (match(tail, /\*\//)) text = head " " substr(tail, RSTART + 2)
            else { text = head; in_comment = 1 }
        }
        sub(/\/\/.*/, "", text)
        while (match(text, /[A-Za-z_][A-Za-z0-9_]*[ \t]*\(/)) {
            name = substr(text, RSTART, RLENGTH - 1)
            sub(/[ \t]+$/, "", name)
            if (name in banned && !((FILENAME, name) in allowed)) {
                print FILENAME ":" FNR ": calls " name
                bad = 1
            }
            text = substr(text, RSTART + RLENGTH)
        }
    }
    END { exit bad }'
