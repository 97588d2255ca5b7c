#!/bin/sh
# make-venv.sh FOLDER REQUIREMENTS: a fresh Python environment with the packages in FOLDER.
# The system's python3 first: it is the one whose venv module deploy/install-deps.sh provides.
set -eu
for python in /usr/bin/python3 python3; do
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        rm -rf "$1"
        "$python" -m venv "$1"
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$2"
        exit 0
    fi
done
echo "make-venv: no python3 with the venv module (deploy/install-deps.sh --test)" >&2
exit 1
