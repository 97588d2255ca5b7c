#!/usr/bin/env bash
# Fails when clang-format 14 would change a C file. Other versions differ in details, so with them it only
# tells; `make format` rewrites.
set -u
files() { find common broker worker tests -name node_modules -prune -o -name '*.[ch]' -print 2>/dev/null | LC_ALL=C sort; }

tool=
for candidate in clang-format-14 clang-format; do
    if command -v $candidate >/dev/null; then
        tool=$candidate
        break
    fi
done
if [[ -z $tool ]]; then
    echo "format: clang-format is not installed (deploy/install-deps.sh --test)"
    exit 1
fi
[[ -n $(files) ]] || exit 0
if files | xargs $tool --dry-run -Werror --ferror-limit=3; then
    exit 0
fi
case $($tool --version) in
*"version 14."*) exit 1 ;;
esac
echo "format: differences told by $($tool --version), which is not version 14: not counted"
