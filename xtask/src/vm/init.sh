#!/bin/busybox sh
# The first process of the machine that tests run on. The kernel speaks on the first serial line; what is said on the
# second goes to xtask, which looks for the words `::vm::`.

/bin/busybox --install -s /bin
export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LC_ALL=C TERM=dumb
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t tmpfs none /tmp
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf none /sys/fs/bpf
ln -s /proc/self/fd /dev/fd
stty -F /dev/ttyS1 raw -echo
exec </dev/null >/dev/ttyS1 2>&1

say() { echo "::vm:: $*"; }
stop() {
    say "$*"
    # What was said has to leave the line before the power goes.
    stty -F /dev/ttyS1 >/dev/null
    sleep 1
    poweroff -f
}

. /limits
# Should whoever watches be gone, this machine does not stay.
(sleep "$limit" && stop "late after $limit s") &

ip link set lo up
hostname vm
ulimit -n 20000
ulimit -c 0
for module in $modules; do
    insmod "/modules/$module.ko" || stop "lacks module $module"
done
say "boot $(uname -r)"

# step NAME DIRECTORY COMMAND...
step() {
    say "begin $1"
    : >/tmp/skipped
    cd "$2" || stop "lacks directory $2"
    shift 2
    "$@"
    status=$?
    while read -r line || [ -n "$line" ]; do say "skip $line"; done </tmp/skipped
    say "end $status"
}
. /steps
stop done
