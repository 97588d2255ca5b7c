#!/bin/sh
# embed.sh SYMBOL FILE...
#
# Write C source to standard output that defines the bytes of the files, joined in the order given, as
#     const char SYMBOL[];            ends with a NUL that is not counted
#     const size_t SYMBOL_size;
# Needs nothing but POSIX tools, because it runs in every build. Characters, not one string literal:
# C11 promises no literal longer than 4095 bytes.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: embed.sh SYMBOL FILE..." >&2
    exit 2
fi
symbol=$1
shift
for file; do
    if [ ! -r "$file" ]; then
        echo "embed.sh: cannot read $file" >&2
        exit 1
    fi
done

cat <<EOF
/* Made by common/queue/embed.sh from:$(for file; do printf ' %s' "${file##*/}"; done) */
#include <stddef.h>

extern const char ${symbol}[];
extern const size_t ${symbol}_size;

const char ${symbol}[] = {
EOF
cat "$@" | od -An -v -tx1 | sed "s/ \([0-9a-f][0-9a-f]\)/'\\\\x\1',/g"
cat <<EOF
0};
const size_t ${symbol}_size = sizeof(${symbol}) - 1;
EOF
