#!/bin/sh
# Takes a snapshot of Node's own start, before any program, for each usual memory limit; fails if Node would not use it.
#
# Debian's Node is built without one and runs all its own JavaScript at each start, which is a third of a small program's time.
set -eu
mkdir /opt/evalx/snapshots
grep -m 1 -E '^(flags|Features)' /proc/cpuinfo >/opt/evalx/snapshots/processor
: >/tmp/nothing.js
for memory_mb in 32 64 128 256 512 1024; do
    heap=--max-old-space-size=$memory_mb
    stack=--stack-size=60000
    node $heap $stack --snapshot-blob "/opt/evalx/snapshots/$heap,$stack" --build-snapshot /tmp/nothing.js
    echo 'console.log(process.execArgv[0], 6 * 7)' >/tmp/main.js
    /opt/evalx/node $heap $stack /tmp/main.js | grep -qx -e "--snapshot-blob=.*,$stack 42"
done
chmod 444 /opt/evalx/snapshots/*
rm -f /tmp/nothing.js /tmp/main.js
