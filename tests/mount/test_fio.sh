#!/bin/bash
# SPDX-License-Identifier: MIT
# fio writes patterns and verifies them: sequential, random, unaligned, mapped, direct, asynchronous, several jobs on
# files of their own and on one file; then once more after a remount, when no page is in the kernel's cache.
. "$(dirname "$0")/lib.sh"

cat >"$W/jobs.fio" <<'END'
[global]
directory=${MNT}
size=32m
verify=crc32c
verify_fatal=1
do_verify=1
randseed=2
ioengine=psync
stonewall

[sequential]
rw=write
bs=128k

[random]
rw=randwrite
bs=4k
fsync=256

[any-size]
rw=randwrite
bsrange=512-64k
blockalign=512

[overwritten]
rw=randwrite
bs=8k
loops=2

[mixed]
rw=randrw
bs=16k

[backwards]
rw=write:-64k
bs=32k
size=16m

[mapped]
ioengine=mmap
rw=randwrite
bs=4k

[mapped-sequential]
ioengine=mmap
rw=write
bs=64k

[direct]
rw=randwrite
bs=4k
direct=1

[direct-large]
rw=write
bs=1m
direct=1

[asynchronous]
ioengine=libaio
iodepth=16
rw=randwrite
bs=16k

[asynchronous-direct]
ioengine=libaio
iodepth=16
direct=1
rw=randwrite
bs=4k

[vectors]
ioengine=pvsync2
rw=randwrite
bs=32k

[four]
numjobs=4
rw=randwrite
bs=4k
size=8m

[one-file]
numjobs=4
filename=shared
offset_increment=8m
size=8m
rw=randwrite
bs=8k
END
export JOBS=$W/jobs.fio

# fio 3.33 counts errors in its exit status only with verify_fatal.
write_and_verify() { fio --output="$W/tmp/fio.$WHO" "$JOBS" || { grep -iE 'verif|err|fail' "$W/tmp/fio.$WHO" >&2; false; }; }
checksums() { find . -type f -print0 | sort -z | xargs -0 sha256sum; }
again_from_the_region() {
    # Files whose every block has a header of fio's: read and verify what the first run left.
    local job bs
    for job in sequential:128k random:4k overwritten:8k mapped:4k direct:4k direct-large:1m asynchronous:16k; do
        bs=${job#*:} job=${job%:*}
        fio --name="$job" --filename="$MNT/$job.0.0" --size=32m --rw=read --bs="$bs" --verify=crc32c --verify_fatal=1 \
            --output="$W/tmp/fio.$WHO" || { cat "$W/tmp/fio.$WHO" >&2; false; }
    done
}

would_be_noticed() { # one wrong byte
    printf X | dd of=random.0.0 bs=1 seek=12345678 conv=notrunc status=none
    ! fio --name=random --filename="$MNT/random.0.0" --size=32m --rw=read --bs=4k --verify=crc32c --verify_fatal=1 \
        --output=/dev/null >/dev/null 2>&1
}

for WHO in ${SHMFS_TEST_WHO:-root user}; do
    fs_mount
    run write_and_verify
    run checksums >"$W/before"
    if [ "${SHMFS_TEST_ON:-}" != tmpfs ]; then
        fs_umount
        fs_check
        fs_mount
    fi
    run checksums >"$W/after"
    diff "$W/before" "$W/after" || fail "the files are not what they were before the remount"
    run again_from_the_region
    run would_be_noticed
    fs_end
    rm -f "$W/tmp/fio.$WHO"
    note "fio"
done
WHO=root
