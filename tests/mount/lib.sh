# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What every mount test begins with:  . "$(dirname "$0")/lib.sh"
#
#   fs_mount [OPTION,...]   mounts $REGION on $MNT as $WHO, the driver in the foreground with its log kept
#   fs_end                  unmounts as $WHO would, demands that the driver ended well, checks the region
#   each_way FUNCTION       runs FUNCTION on a fresh mount as root, then as an ordinary user on a mount of his own
#   run FUNCTION            runs a shell function in a process of its own, as $WHO
#   fail TEXT               ends the test
#
# A test is standalone: BUILD names the build directory (default: ../../build). It exits 0 if it passed.
# SHMFS_TEST_OPTS adds mount options to every mount; SHMFS_TEST_WHO=root leaves the user's turn out.
# SHMFS_TEST_ON=tmpfs mounts a tmpfs instead, for work on the
# tests themselves: what is not about the driver must pass there too.
set -euE -o pipefail
umask 022
export LC_ALL=C.UTF-8

T_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
T_NAME=$(basename "$0")
T_SRC=$(cd "$T_HERE/../.." && pwd)
BUILD=$(realpath -m "${BUILD:-$T_SRC/build}")
# An ordinary user cannot reach what lies in root's home (pyenv, pip): the system's programs come first.
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
PY=/usr/bin/python3
[ -x $PY ] || PY=python3
T_UID=65534 T_GID=65534 # nobody, nogroup
T_OWN_PIDS=()
T_EXTRA=() # files elsewhere, to be removed at the end

if [ "$(id -u)" != 0 ]; then
    # Root mounts are half of what is tested.
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        exec sudo -n env BUILD="$BUILD" SHMFS_TEST_OPTS="${SHMFS_TEST_OPTS:-}" \
            SHMFS_TEST_WHO="${SHMFS_TEST_WHO:-}" SHMFS_TEST_ON="${SHMFS_TEST_ON:-}" "$0" "$@"
    fi
    echo "$T_NAME: needs root to mount as root and as somebody else; run it with sudo" >&2
    exit 77
fi

fail() {
    echo "FAIL: $T_NAME${WHO:+ ($WHO)}: $*" >&2
    exit 1
}
note() { # says that something passed, and how many seconds it took
    echo "   ${WHO:+[$WHO] }$* ($((SECONDS - T_NOTED)) s)"
    T_NOTED=$SECONDS
}
T_NOTED=0

W=$(mktemp -d /tmp/shmfs-test.XXXXXX)
chmod 755 "$W"
MNT=$W/mnt
REGION=/dev/shm/${W##*/}
WHO=root
SIZE=1G
DRIVER=
cd "$W"

as_user() { (WHO=user && exec_as_who "$@"); } # runs a command as an ordinary user without groups
as_who() { if [ "$WHO" = user ]; then as_user "$@"; else "$@"; fi; }
# For the background: $! is the command's own pid.
exec_as_who() {
    if [ "$WHO" = user ]; then
        exec setpriv --reuid=$T_UID --regid=$T_GID --clear-groups env HOME="$W/home" USER=nobody LOGNAME=nobody TMPDIR="$W/tmp" "$@"
    fi
    exec "$@"
}

mkdir "$W/home" "$W/tmp"
chown $T_UID:$T_GID "$W/home"
chmod 1777 "$W/tmp"
# A checkout that the user cannot reach (in a home of mode 0700) is copied to where he can.
if ! as_user test -r "$T_HERE/lib.sh"; then
    cp -r "$T_HERE" "$W/t"
    T_HERE=$W/t
fi
if [ -x "$BUILD/fs/shmfs" ] && ! as_user test -x "$BUILD/fs/shmfs"; then
    mkdir -p "$W/build"
    (cd "$BUILD" && cp -a --parents fs/shmfs mkfs/mkfs.shmfs tools/fsck.shmfs tools/shmfsctl lib/libshmfs.so* "$W/build/")
    BUILD=$W/build
fi
SHMFS=$BUILD/fs/shmfs MKFS=$BUILD/mkfs/mkfs.shmfs FSCK=$BUILD/tools/fsck.shmfs CTL=$BUILD/tools/shmfsctl
# Sanitizers write here, also when the driver is a daemon without a terminal: fs_end fails on any such file.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$W/sanitizer" UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$W/sanitizer"
export W MNT REGION WHO BUILD PY T_HERE T_SRC T_NAME T_UID T_GID SHMFS MKFS FSCK CTL PATH

t_cleanup() {
    local rc=$? pid
    trap '' EXIT HUP INT TERM ERR
    set +e
    if [ $rc != 0 ] && [ -s "$W/driver.log" ]; then
        echo "the driver said:" >&2
        tail -20 "$W/driver.log" >&2
    fi
    cd /
    for pid in "${T_OWN_PIDS[@]}" $(fs_drivers); do
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    t_mounts | while read -r m; do umount -l "$(printf '%b' "$m")"; done
    rm -rf --one-file-system "$W"
    rm -rf --one-file-system "$REGION"* "${T_EXTRA[@]}"
    exit $rc
}
trap t_cleanup EXIT
trap 'exit 129' HUP INT TERM
trap 'echo "FAIL: $T_NAME${WHO:+ ($WHO)}: line $LINENO: $BASH_COMMAND" >&2' ERR

# Mount points below $W, innermost first.
t_mounts() { awk -v w="$W/" 'index($5, w) == 1 { print $5 }' /proc/self/mountinfo | sort -r; }

# Pids of drivers that were started here: their command line names our unique directory.
fs_drivers() {
    local p
    for p in /proc/[0-9]*; do
        [ "$p/exe" -ef "$SHMFS" ] || continue
        # As $W/mnt or as the region /dev/shm/<basename of W>…; a pid that ends meanwhile reads as nothing.
        if tr '\0' '\n' 2>/dev/null <"$p/cmdline" | grep -q -e "${W##*/}"; then echo "${p##*/}"; fi
    done
}

# wait_for SECONDS COMMAND...: until the command succeeds. Polls: there is nobody to be told by. The pause is a
# read from a FIFO that nobody writes to: it costs no process.
mkfifo "$W/never"
exec {T_NEVER}<>"$W/never"
wait_for() {
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        read -r -t 0.01 -u "$T_NEVER" || true
    done
}
gone() { [ ! -e "/proc/$1" ] || grep -qs '^State:.Z' "/proc/$1/status"; }
is_mounted() { awk -v m="${1:-$MNT}" '$5 == m { found = 1 } END { exit !found }' /proc/self/mountinfo; }

fs_mount() {
    local opts=${1:-}
    opts=${opts:+,$opts}${SHMFS_TEST_OPTS:+,$SHMFS_TEST_OPTS}
    mkdir -p "$MNT"
    if [ "$WHO" = user ]; then chown $T_UID:$T_GID "$MNT"; else chown 0:0 "$MNT"; fi
    if [ "${SHMFS_TEST_ON:-}" = tmpfs ]; then
        mount -t tmpfs -o "size=$SIZE,uid=$(stat -c %u "$MNT"),gid=$(stat -c %g "$MNT"),mode=755" "$REGION" "$MNT"
        return
    fi
    : >"$W/driver.log"
    exec_as_who "$SHMFS" -f -o "region=$REGION,size=$SIZE$opts" "$MNT" >"$W/driver.log" 2>&1 &
    DRIVER=$!
    T_OWN_PIDS+=("$DRIVER")
    wait_for 20 fs_answers || fail "the driver did not mount within 20 s"
    kill -0 $DRIVER 2>/dev/null || fail "the driver ended instead of mounting"
    [ "$(stat -f -c %t "$MNT")" = 65735546 ] || fail "$MNT is no FUSE mount"
}
fs_answers() { is_mounted || ! kill -0 "$DRIVER" 2>/dev/null; }

# fs_check [REGION]: nothing may be wrong with it.
fs_check() {
    local region=${1:-$REGION}
    [ "${SHMFS_TEST_ON:-}" != tmpfs ] || return 0
    as_who "$FSCK" -n "$region" >"$W/fsck.log" 2>&1 || {
        local rc=$?
        head -40 "$W/fsck.log" >&2
        fail "fsck.shmfs -n $region: exit $rc"
    }
}
fs_sane() {
    local f
    for f in "$W"/sanitizer*; do
        [ -e "$f" ] || continue
        cat "$f" >&2
        fail "a sanitizer spoke up"
    done
}

# fs_umount: as the owner of the mount would; the driver must end by itself, with 0.
fs_umount() {
    local rc=0
    if [ "${SHMFS_TEST_ON:-}" = tmpfs ]; then
        umount "$MNT"
        return
    fi
    if [ "$WHO" = user ]; then as_user fusermount3 -u "$MNT"; else umount "$MNT"; fi
    wait_for 30 gone "$DRIVER" || fail "the driver (pid $DRIVER) is still there 30 s after umount"
    wait "$DRIVER" || rc=$?
    DRIVER=
    [ $rc = 0 ] || fail "the driver ended with $rc"
}
fs_end() {
    fs_umount
    fs_sane
    fs_check
    rm -f "$REGION"
}

# run FUNCTION [ARGUMENT...]: in a shell of its own, which ends at the first command that fails.
run() {
    local text
    text="$(declare -f)
set -euE -o pipefail
trap 'echo \"FAIL: \$T_NAME (\$WHO): \$BASH_COMMAND\" >&2' ERR
cd \"\$MNT\"
\"\$@\""
    as_who bash -c "$text" "$T_NAME" "$@" || fail "$* (exit $?)"
}

each_way() {
    local f=$1
    shift
    for WHO in ${SHMFS_TEST_WHO:-root user}; do
        fs_mount
        run "$f" "$@"
        fs_end
        note "$f${*:+ $*}"
    done
    WHO=root
}
