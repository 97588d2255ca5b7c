#!/usr/bin/env bash
# Install what Penstock needs on Debian 12, Debian 13 or Ubuntu 24.04, and nothing that is there already.
#
#   deploy/install-deps.sh            to build and to run the demo
#   deploy/install-deps.sh --test     also what `make test` needs
#   deploy/install-deps.sh --bench    also what `make bench` needs
#   deploy/install-deps.sh --soak     also what `make soak` needs
#   deploy/install-deps.sh --dev      also what `make fuzz` and `make tidy` need
#   deploy/install-deps.sh --check    install nothing: print what is missing, exit 1 if anything is
#
# Flags add up. When nothing is missing it neither asks for rights nor touches the network. It starts no
# service: a redis-server that comes with the package stays off for this installation.
set -euo pipefail

test=0 bench=0 soak=0 dev=0 check=0
for flag; do
    case $flag in
    --test) test=1 ;;
    --bench) bench=1 ;;
    --soak) soak=1 ;;
    --dev) dev=1 ;;
    --check) check=1 ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "install-deps: unknown flag $flag (see --help)" >&2; exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "install-deps: this system has no apt. Install by hand: a C11 compiler, make, pkg-config," >&2
    echo "  libuv, hiredis, libcurl, msgpack-c, libmicrohttpd, json-c, libcyaml, OpenSSL, redis-server >= 7.0" >&2
    exit 1
fi

# A program may come from anywhere; a library is known by its package. "a|b": either name, by release.
missing=()
packages=(libc6-dev libuv1-dev libhiredis-dev libcurl4-openssl-dev 'libmsgpack-c-dev|libmsgpack-dev'
    libmicrohttpd-dev libjson-c-dev libcyaml-dev libyaml-dev libssl-dev ca-certificates)

need_program() { # program package
    command -v "$1" >/dev/null || missing+=("$2")
}

need_program gcc gcc
need_program make make
need_program pkg-config pkg-config
need_program redis-server redis-server
need_program redis-cli redis-tools
need_program curl curl
if ((test || bench || soak)); then
    packages+=(python3 python3-venv)
fi
if ((test)); then
    packages+=(libcmocka-dev)
    need_program groff groff-base # for the test of the manual pages
    command -v clang-format-14 >/dev/null || need_program clang-format 'clang-format-14|clang-format'
fi
if ((test || bench)); then
    # The tests of the JavaScript SDK and the peers of the benchmark bring a newer Node of their own; to fetch it, any npm from 18 on will do.
    if ! command -v npm >/dev/null; then
        missing+=(nodejs npm)
    else
        node_major=$(node -v 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/') || node_major=0
        [[ ${node_major:-0} -ge 18 ]] || missing+=(nodejs npm)
    fi
fi
if ((dev)); then
    packages+=(libclang-rt-dev) # sanitizers and libFuzzer, which clang only recommends
    need_program clang clang
    need_program clang-tidy clang-tidy
    need_program cppcheck cppcheck
    need_program valgrind valgrind
fi

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' ${packages[@]//|/ } 2>/dev/null |
    sed -n 's/^installed //p') || true
is_installed() {
    [[ $'\n'$installed$'\n' == *$'\n'$1$'\n'* ]]
}
for entry in "${packages[@]}"; do
    found=0
    for name in ${entry//|/ }; do
        if is_installed "$name"; then
            found=1
        fi
    done
    ((found)) || missing+=("$entry")
done

if ((${#missing[@]} == 0)); then
    ((check)) && echo "install-deps: nothing is missing"
    exit 0
fi
if ((check)); then
    printf 'install-deps: missing: %s\n' "${missing[*]}"
    exit 1
fi

if ((EUID == 0)); then
    as_root=()
elif command -v sudo >/dev/null; then
    as_root=(sudo)
else
    echo "install-deps: missing: ${missing[*]}" >&2
    echo "install-deps: to install them run this as root, or install sudo" >&2
    exit 1
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)

# Debian starts the services of a package when it is installed. A redis-server on the standard port that
# nobody asked for would surprise, so services are held back until we are done, however we end.
policy=/usr/sbin/policy-rc.d
policy_is_ours=0
restore_policy() {
    if ((policy_is_ours)); then
        "${as_root[@]}" rm -f "$policy"
    fi
}
trap restore_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# One that an earlier run of ours left, because it was killed, is ours too.
if [[ ! -e $policy ]] || grep -q '^# penstock install-deps$' "$policy"; then
    policy_is_ours=1
    printf '#!/bin/sh\n# penstock install-deps\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

"${apt[@]}" update >/dev/null || echo "install-deps: could not refresh the package lists, trying with the old ones" >&2

has_candidate() {
    # Not "| grep -q": that ends early, apt-cache then dies of the closed pipe, and pipefail says no.
    [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]
}
chosen=()
for entry in "${missing[@]}"; do
    choice=${entry##*|}
    for name in ${entry//|/ }; do
        if has_candidate "$name"; then
            choice=$name
            break
        fi
    done
    chosen+=("$choice")
done

echo "install-deps: installing ${chosen[*]}"
"${apt[@]}" install -y --no-install-recommends "${chosen[@]}"
echo "install-deps: done"
