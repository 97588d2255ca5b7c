#!/usr/bin/env bash
# Proves of every lint that it accepts a clean tree and catches a planted violation, in a small tree of its own.
set -u
root=$PWD
temp=$(mktemp -d "${TMPDIR:-/tmp}/penstock-lint.XXXXXX")
trap 'rm -rf "$temp"' EXIT
status=0

fresh_tree() {
    rm -rf "${temp:?}/tree"
    mkdir -p "$temp/tree" && cd "$temp/tree" || exit 1
    mkdir -p common/base common/job broker worker/run docs deploy tests build/common/base
    cp -r "$root/tests/lint" tests/
    cp "$root/docs/layers.txt" docs/
    cp "$root/.clang-format" .
    cat >common/base/thing.h <<'C'
/* A thing. */
#ifndef PENSTOCK_BASE_THING_H
#define PENSTOCK_BASE_THING_H

int thing_add(int a, int b);

#endif
C
    cat >common/base/thing.c <<'C'
#include "common/base/thing.h"

#include <stdio.h>

static const char *const names[] = {"sprintf(", "strcpy("};

/* A comment may name realloc() and getenv(). */
int thing_add(int a, int b)
{
    return puts(names[0]) + a + b;
}
C
    printf 'listen: x\nredis:\n  url: y   # why\nblob: {url: "", bytes_max: 0}\nupstreams:\n  - name: z\n' >deploy/penstock.yaml
    printf '# Keys\n| Key | |\n|---|---|\n| `listen` | |\n| `redis.url` | |\n| `blob.url` | |\n| `blob.bytes_max` | |\n| `upstreams[].name` | |\n' \
        >docs/configuration.md
    cat >common/base/settings_rows.c <<'C'
const struct settings_row settings_rows[] = {
    {"listen", SETTINGS_TEXT, TOP(listen), 0},
    {"redis.url", SETTINGS_TEXT, TOP(redis.url), 0},
    {"blob.url", SETTINGS_TEXT, TOP(blob.url), 0},
    {"blob.bytes_max", SETTINGS_INT64, TOP(blob.bytes_max), 0},
    {"upstreams", SETTINGS_UPSTREAMS, TOP(upstreams), 0},
    {"name", SETTINGS_TEXT, UP(name), 0},
};
C
    compile
}
compile() {
    ${CC:-cc} -std=c11 -I. -c -o build/common/base/thing.o common/base/thing.c
}
run() { # lint
    OUT=build LINT_CFLAGS='-std=c11 -I.' CC=${CC:-cc} "tests/lint/$1.sh" >"$temp/output" 2>&1
}
expect_clean() { # lint
    fresh_tree
    if ! run "$1"; then
        echo "$1: refuses a clean tree:"
        cat "$temp/output"
        status=1
    fi
}
# The violation is a shell command that changes the tree; the output must speak of the given words.
expect_caught() { # lint words violation
    fresh_tree
    eval "$3"
    if run "$1"; then
        echo "$1: does not catch: $3"
        status=1
    elif ! grep -q -- "$2" "$temp/output"; then
        echo "$1: catches, but does not say '$2': $3"
        cat "$temp/output"
        status=1
    fi
}

lints='layers headers globals sizes states banned config_docs words format'
for lint in $lints; do
    expect_clean "$lint"
done

expect_caught layers 'may not include broker/' "sed -i '1i #include \"broker/broker.h\"' common/base/thing.c"
expect_caught layers 'may not include <uv.h>' "sed -i '1i #include <uv.h>' common/base/thing.c"
expect_caught layers 'may not include <pthread.h>' "sed -i '1i # include <pthread.h>' common/base/thing.h"
expect_caught layers 'has no row' 'mkdir common/odd; echo "int x;" >common/odd/x.h'
expect_caught layers 'not above it' "sed -i 's|^common/job .*|common/job common/queue|' docs/layers.txt"
expect_caught layers 'may not include worker/' "echo '#include \"worker/run/claim.h\"' >broker/main.c"

expect_caught headers 'does not compile alone' "echo 'size_t thing_size(void);' >>common/base/thing.h"
expect_caught headers 'a header has at most' 'yes "/* line */" | head -250 >>common/base/thing.h'
expect_caught headers 'no include guard' "echo 'int x(void);' >common/base/bare.h"

expect_caught globals 'writable global counter' 'echo "static int counter; int thing_count(void) { return ++counter; }" >>common/base/thing.c; compile'
expect_caught globals 'writable global seen' 'echo "int thing_seen(void) { static int seen = 1; return seen++; }" >>common/base/thing.c; compile'
expect_caught globals 'build first' 'rm build/common/base/thing.o'

expect_caught sizes 'lines, at most 700' 'yes "/* line */" | head -700 >>common/base/thing.c'
expect_caught sizes 'function of' '{ echo "int thing_long(void)"; echo "{"; yes "    ;" | head -75; echo "}"; } >>common/base/thing.c'
expect_caught sizes 'function of' 'mkdir -p common/queue/functions; { echo "local function f()"; yes "  x()" | head -75; echo "end"; } >common/queue/functions/f.lua'

expect_caught states 'outside its setter' 'echo "void f(struct job *job) { job->state = JOB_FAILED; }" >broker/x.c'
expect_caught states 'outside its setter' 'echo "struct job j = {.state = JOB_FAILED};" >broker/x.c'
expect_caught states 'outside its setter' 'echo "void f(struct job *job) { job[1].state = 2; }" >common/job/other.c'

for call in sprintf strcpy strcat strtok gets atoi strtol alloca sleep system getenv realloc; do
    expect_caught banned "calls $call" "echo 'void f(void) { $call (x); }' >broker/x.c"
done
expect_caught banned 'calls atoi' "printf '/* a\n * b */ int x = atoi(y); /* c */\n' >broker/x.c"

expect_caught config_docs 'says nothing about redis.shards' 'sed -i "s/^  url: y.*/&\n  shards: 1/" deploy/penstock.yaml'
expect_caught config_docs 'says nothing about blob.more' 'sed -i "s/bytes_max: 0}/bytes_max: 0, more: 1}/" deploy/penstock.yaml'
expect_caught config_docs 'lacks upstreams.weight' 'echo "| \`upstreams[].weight\` | |" >>docs/configuration.md'
expect_caught config_docs 'lacks redis.shards of deploy' "sed -i 's/^  url: y.*/&\n  shards: 1/' deploy/penstock.yaml"
expect_caught config_docs 'lacks upstreams.weight of common' "echo '    {\"weight\", SETTINGS_INT, UP(weight), 0},' >>common/base/settings_rows.c"
expect_caught config_docs 'is missing' 'rm docs/configuration.md'

expect_caught words 'unfinished' 'echo "/* TO""DO: finish */" >broker/x.c'
expect_caught words 'unfinished' 'echo "This is a place""holder." >docs/x.md'
expect_caught words 'machine' 'echo "see /wo""rk/main/x" >docs/x.md'
expect_caught words 'machine' 'echo "cp x \"/ro""ot/x\"" >docs/x.md'

# Other versions of clang-format differ in details, so with them the lint only tells.
case $( (clang-format-14 --version || clang-format --version) 2>/dev/null) in
*"version 14."*) expect_caught format 'clang-format' 'echo "int  x( void ) ;" >broker/x.c' ;;
esac
exit $status
