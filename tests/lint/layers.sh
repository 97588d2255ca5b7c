#!/bin/sh
# Fails when a file includes what docs/layers.txt does not allow its folder.
set -eu
find common broker worker -name '*.[ch]' 2>/dev/null | LC_ALL=C sort | xargs -r awk -v rules=docs/layers.txt '
function complain(where, text) { print where ": " text; bad = 1 }
function folder(path) { sub(/\/[^\/]*$/, "", path); return path }
BEGIN {
    while ((getline line < rules) > 0) {
        count = split(line, word)
        if (count == 0 || line ~ /^#/) continue
        if (line ~ /^</) door[word[1]] = 1
        else known[word[1]] = may[word[1], word[1]] = 1
        for (i = 2; i <= count; i++) {
            if (!(word[i] in known)) complain(rules, word[1] " names " word[i] ", which is not above it")
            may[word[1], word[i]] = 1
        }
    }
    if (length(known) == 0) complain(rules, "holds no rows")
}
FNR == 1 { here = folder(FILENAME); if (!(here in known)) complain(FILENAME, "folder has no row") }
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, "\"")
    if (!((here, folder(part[2])) in may)) complain(FILENAME ":" FNR, here " may not include " part[2])
}
/^[ \t]*#[ \t]*include[ \t]*</ {
    name = substr($0, index($0, "<"))
    for (prefix in door)
        if (index(name, prefix) == 1 && !((prefix, here) in may))
            complain(FILENAME ":" FNR, here " may not include " name)
}
END { exit bad }'
