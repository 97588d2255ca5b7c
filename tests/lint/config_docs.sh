#!/bin/sh
# Fails when the keys in the code (common/base/settings_rows.c), in deploy/penstock.yaml and in
# docs/configuration.md are not the same.
#
# In the code a key is the first text of a row; rows of an upstream address fields by UP(...).
# In the sample a key is written as YAML; its path is redis.url, blob.bytes_max, upstreams.name, and so on
# (lists and maps of free names count by their own key). In the manual a key is documented by a table row
# or heading that starts with its path in backticks; "[]" after a list's name may be there.
set -eu
sample=deploy/penstock.yaml
manual=docs/configuration.md
code=common/base/settings_rows.c
for file in $sample $manual $code; do
    [ -f $file ] || { echo "config_docs: $file is missing"; exit 1; }
done
temp=$(mktemp -d "${TMPDIR:-/tmp}/penstock-lint.XXXXXX")
trap 'rm -rf "$temp"' EXIT

awk '
    function emit(path) { sub(/^\./, "", path); print path }
    function inline(prefix, text, depth, i, ch, key, quoted, wants) { # {a: 1, b: {c: 2}}
        for (i = 1; i <= length(text); i++) {
            ch = substr(text, i, 1)
            if (ch == "\"") quoted = !quoted
            if (quoted) continue
            if (ch == "{") { wants = 1; key = "" }
            else if (ch == ",") { wants = 1; key = "" }
            else if (ch == "[") { return }
            else if (ch == ":" && wants) { gsub(/ /, "", key); emit(prefix "." key); wants = 0 }
            else if (wants) key = key ch
        }
    }
    /^[ \t]*(#|$)/ { next }
    {
        line = $0
        sub(/[ \t]+#.*/, "", line)
        match(line, /^ */)
        indent = RLENGTH
        rest = substr(line, indent + 1)
        while (rest ~ /^- /) { rest = substr(rest, 3); indent += 2 }
        if (rest !~ /^[a-z_][a-z0-9_]*:/) next
        key = rest
        sub(/:.*/, "", key)
        value = substr(rest, length(key) + 2)
        sub(/^ */, "", value)
        while (depth > 0 && indents[depth] >= indent) depth--
        prefix = depth > 0 ? paths[depth] : ""
        depth++
        indents[depth] = indent
        paths[depth] = prefix "." key
        if (key == "aliases") emit(paths[depth])
        else if (value ~ /^\{/) inline(paths[depth], value)
        else if (value != "") emit(paths[depth])
    }' $sample | LC_ALL=C sort -u >"$temp/sample"

sed -n -e 's/^| *`\([a-z_][][a-z0-9_.]*\)`.*/\1/p' -e 's/^##* `\([a-z_][][a-z0-9_.]*\)`.*/\1/p' $manual |
    sed 's/\[\]//g' | LC_ALL=C sort -u >"$temp/manual"

sed -n -e '/ TOP(/s/^ *{"\([a-z_][a-z0-9_.]*\)", SETTINGS_.*/\1/p' \
    -e '/ UP(/s/^ *{"\([a-z_][a-z0-9_.]*\)", SETTINGS_.*/upstreams.\1/p' $code |
    grep -vx upstreams | LC_ALL=C sort -u >"$temp/code"

status=0
for list in sample manual code; do
    if [ ! -s "$temp/$list" ]; then
        echo "config_docs: found no keys in the $list"
        status=1
    fi
done
for key in $(LC_ALL=C comm -23 "$temp/code" "$temp/sample"); do
    echo "$sample: lacks $key of $code"
    status=1
done
for key in $(LC_ALL=C comm -13 "$temp/code" "$temp/sample"); do
    echo "$code: lacks $key of $sample"
    status=1
done
for key in $(LC_ALL=C comm -23 "$temp/sample" "$temp/manual"); do
    echo "$manual: says nothing about $key of $sample"
    status=1
done
for key in $(LC_ALL=C comm -13 "$temp/sample" "$temp/manual"); do
    # A row may stand for a whole section or list.
    grep -q "^$key\." "$temp/sample" && continue
    echo "$sample: lacks $key of $manual"
    status=1
done
exit $status
