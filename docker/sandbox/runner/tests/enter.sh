#!/bin/sh
# Makes a root like that of a sandbox container and becomes the runner in it. Called in fresh mount, pid and ipc namespaces.
# SOCKETS in the environment: the folder that becomes /run/evalx, read-only.
# WARM=yes in the environment: an interpreter is installed, whose library stands in for itself and is empty.
# usage: enter.sh ROOT RUNNER PROGRAMS CGROUP|- CAPABILITIES UID_BASE UID_COUNT DEAD_MAN
set -eu
root=$1 runner=$2 programs=$3 cgroup=$4 caps=$5
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$root"
cd "$root"
mkdir -p box scratch tmp proc dev/shm dev/mqueue sys/fs/cgroup/memory sys/fs/cgroup/cpuacct opt/evalx usr etc
for name in bin lib lib64 sbin; do [ -L "/$name" ] && ln -s "$(readlink "/$name")" "$name"; done
mount --bind -o ro /usr usr
touch dev/null opt/evalx/runner opt/evalx/forkserver.so
mount --bind /dev/null dev/null
ln -s /proc/self/fd/1 dev/stdout
mount --bind "$runner" opt/evalx/runner
mount --bind "$programs/forkserver.so" opt/evalx/forkserver.so
if [ -n "${WARM:-}" ]; then touch opt/evalx/warm.so; fi
mkdir opt/evalx/programs && mount --bind "$programs" opt/evalx/programs
mount -t proc proc proc
mount -t mqueue mqueue dev/mqueue
mkdir -p run/evalx && mount --bind "$SOCKETS" run/evalx && mount -o remount,ro,bind run/evalx
mount -t tmpfs -o mode=755,size=256m box box
mount -t tmpfs -o mode=755,noexec,size=256m,nr_inodes=100k scratch scratch
mount -t tmpfs -o mode=1777,size=256m,nr_inodes=100k tmp tmp
mount -t tmpfs -o mode=1777,size=256m,nr_inodes=100k shm dev/shm
if [ "$cgroup" != - ]; then
    echo $$ > "$cgroup/cgroup.procs"
    if [ -e "$cgroup/memory.events" ]; then mount --bind "$cgroup" sys/fs/cgroup; else mount --bind "$cgroup" sys/fs/cgroup/memory; fi
    time=/sys/fs/cgroup/cpuacct/$(basename "$cgroup")
    if [ -e "$time" ]; then echo $$ > "$time/cgroup.procs" && mount --bind "$time" sys/fs/cgroup/cpuacct; fi
fi
mount -o remount,ro,bind "$root" 2>/dev/null || mount -o remount,ro "$root"
exec chroot "$root" /usr/bin/setpriv --inh-caps=-all --bounding-set=$caps --no-new-privs \
    /usr/bin/env -i ASAN_OPTIONS="${ASAN_OPTIONS:-}" /opt/evalx/runner --uid-base "$6" --uid-count "$7" --dead-man "$8"
