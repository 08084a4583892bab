#!/bin/busybox sh
# The first process of the machine that tests run on. The kernel speaks on the first serial line; what is said on the
# second goes to xtask, which looks for the words `::vm::`.

say() { echo "::vm:: $*"; }
stop() {
    say "$*"
    # What was said has to leave the line before the power goes.
    stty -F /dev/ttyS1 >/dev/null
    sleep 1
    poweroff -f
}

# What every root needs; $1 is it.
system() {
    mkdir -p "$1/proc" "$1/sys" "$1/dev"
    mount -t proc none "$1/proc"
    mount -t sysfs none "$1/sys"
    mount -t devtmpfs none "$1/dev"
}

# Starts this script again, with the files of the machine that this one runs on as the root. They are not written to: what
# changes is kept in memory.
enter_shared() {
    mkdir -p /shared /changes /world
    mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 files /shared ||
        stop "lacks the shared files"
    mount -t tmpfs none /changes
    mkdir /changes/files /changes/work
    mount -t overlay -o lowerdir=/shared,upperdir=/changes/files,workdir=/changes/work none /world ||
        stop "cannot lay memory over the shared files"
    system /world
    # Not below /tmp or /run, where the checkout could be.
    mkdir /world/.vm
    mount -t tmpfs none /world/.vm
    mkdir /world/.vm/bin
    cp /bin/busybox /init /settings /steps /world/.vm
    exec switch_root /world /.vm/busybox sh /.vm/init
}

if [ -d /.vm ]; then
    own=/.vm
    /.vm/busybox --install -s /.vm/bin
    export PATH=/.vm/bin
else
    own=''
    /bin/busybox --install -s /bin
    export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LC_ALL=C TERM=dumb
    system ''
    stty -F /dev/ttyS1 raw -echo
    exec </dev/null >/dev/ttyS1 2>&1
fi
. "$own/settings"
if [ -z "$own" ]; then
    for module in $modules; do
        insmod "/modules/$module.ko" || stop "lacks module $module"
    done
    if [ "$shares" = yes ]; then enter_shared; fi
    # The checkout could be below one of them.
    for directory in /tmp /run; do
        [ -n "$(ls "$directory")" ] || mount -t tmpfs none "$directory"
    done
fi

mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf none /sys/fs/bpf
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
# A link may lead to a file that is made at a boot.
rm -f /etc/hosts /etc/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' >/etc/hosts
# There is nobody to ask, but a node wants to know whom.
echo 'nameserver 127.0.0.1' >/etc/resolv.conf

# Should whoever watches be gone, this machine does not stay.
(sleep "$limit" && stop "late after $limit s") &

ip link set lo up
hostname vm
ulimit -n 20000
ulimit -c 0
say "boot $(uname -r)"

# step NAME DIRECTORY COMMAND...
step() {
    say "begin $1"
    : >/run/skipped
    cd "$2" || stop "lacks directory $2"
    shift 2
    # The first process is in no process group that could be named; what it starts would not be either.
    setsid "$@"
    status=$?
    while read -r line || [ -n "$line" ]; do say "skip $line"; done </run/skipped
    say "end $status"
}
. "$own/steps"
stop done
