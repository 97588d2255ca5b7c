#!/bin/sh
# To be run before redis-server, each time: mend-aof.sh DIR, the folder that holds appendonlydir.
#
# Redis and Valkey write what a function does as one transaction. When they are killed within that write, their
# start drops the torn last command, but leaves those before it in the file, without an end (valkey-io/valkey#4342).
# At the start after the next one these are run, although they never happened: a submit that was never answered
# comes to life beside the one that was sent again. redis-check-aof takes the whole unfinished transaction away.
for manifest in "$1"/appendonlydir/*.manifest; do
    if [ -f "$manifest" ]; then
        printf 'y\n' | redis-check-aof --fix "$manifest"
    fi
done
exit 0 # what it cannot mend, redis-server itself refuses to load
