/* SPDX-License-Identifier: MIT */
#include "cases.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* 200 bytes: 18 such names fill a bucket. */
#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define LONG X50 X50 X50 X50

/* The rest: .judge, .step, .repeat. */
#define CASE(name_, setup_, ops_, ...) \
    { \
        .name = (name_), .setup = (setup_), .ops = (ops_), ##__VA_ARGS__ \
    }

const struct crash_case cases[] = {
    /* ---- making ---- */
    CASE("create", "mkdir /d", "create /d/a; create /d/b; create /c"),
    CASE("create-in-setgid", "mkdir /d; chmod /d 02775", "create /d/a; mkdir /d/b"),
    CASE("create-exists", "create /a", "EEXIST create /a; EEXIST mkdir /a; EEXIST link /a /a"),
    CASE("create-reused-inode", "file /a 9000; setxattr /a user.x 5000 1; unlink /a", "create /b; mkdir /c"),
    CASE("createref", "", "createref /a"),
    CASE("mkdir", "mkdir /d", "mkdir /d/e; mkdir /d/e/f"),
    CASE("mknod", "", "fifo /f; chr /c"),
    CASE("symlink", "", "symlink /s 10; symlink /i 112; symlink /l 113; symlink /m 4000"),
    CASE("tmpfile", "mkdir /d", "tmpfile /d; linkheld /d/x; drop"),
    CASE("tmpfile-dropped", "mkdir /d", "tmpfile /d; drop"),
    CASE("link", "mkdir /d; mkdir /e; create /e/z; create /d/a",
         "link /d/a /d/b; link /d/a /e/c; link /e/z /d/z"),
    CASE("acl-inherit", "mkdir /d; defacl /d named", "create /d/a; mkdir /d/e; fifo /d/f; symlink /d/s 5"),
    CASE("acl-inherit-small", "mkdir /d; defacl /d small", "create /d/a; mkdir /d/e"),

    /* ---- removing ---- */
    CASE("unlink-one-of-two", "create /a; link /a /b", "unlink /a"),
    CASE("unlink-empty", "create /a; create /b", "unlink /a; unlink /b"),
    CASE("unlink-small", "file /a 5000", "unlink /a"),
    CASE("unlink-large", "file /a 300K", "unlink /a"),
    CASE("unlink-fragmented", "scatter /a 40", "unlink /a"),
    CASE("unlink-very-fragmented", "sparse /a 200", "unlink /a"),
    CASE("unlink-xattrs", "file /a 5000; setxattr /a user.x 20000 1", "unlink /a"),
    CASE("unlink-symlink", "symlink /s 10; symlink /l 3000", "unlink /s; unlink /l"),
    CASE("unlink-held", "file /a 9000; hold /a", "unlink /a; drop"),
    CASE("unlink-held-fragmented", "scatter /a 30; setxattr /a user.x 9000 2; hold /a; unlink /a", "drop"),
    CASE("unlink-missing", "create /a; mkdir /d", "ENOENT unlink /b; ENOENT rmdir /b; ENOENT unlink /d/c"),
    CASE("rmdir", "mkdir /d; mkdir /d/e; mkdir /f; create /f/a; unlink /f/a",
         "rmdir /d/e; rmdir /d; rmdir /f"),
    CASE("rmdir-held", "mkdir /d; hold /d", "rmdir /d; drop"),
    CASE("rmdir-not-empty", "mkdir /d; create /d/a", "ENOTEMPTY rmdir /d"),

    /* ---- renaming ---- */
    CASE("rename-same-dir", "mkdir /d; create /d/a; create /d/b",
         "rename /d/a /d/c; rename /d/c /d/longer-than-before"),
    CASE("rename-cross-dir", "mkdir /d; mkdir /e; create /d/a; create /e/b",
         "rename /d/a /e/a; rename /e/b /d/b; rename /e/a /a; rename /a /e/a"),
    CASE("rename-over-file", "file /a 100 1; file /b 9000 2; mkdir /d; scatter /d/c 12",
         "rename /a /b; rename /b /d/c"),
    CASE("rename-over-held", "file /a 100 1; file /b 9000 2; hold /b", "rename /a /b; drop"),
    CASE("rename-over-link", "file /a 100 1; file /b 100 2; link /b /c; link /a /z",
         "rename /a /b; rename /z /b"),
    CASE("rename-over-xattrs", "file /a 10; file /b 10; setxattr /b user.x 30000 1", "rename /a /b"),
    CASE("rename-over-dir", "mkdir /d; mkdir /e; mkdir /e/f; create /d/a", "rename /d /e/f"),
    CASE("rename-over-dir-same", "mkdir /d; mkdir /e; create /d/a", "rename /d /e"),
    CASE("rename-over-full-dir", "mkdir /d; mkdir /e; create /e/a", "ENOTEMPTY rename /d /e"),
    CASE("rename-dir-across", "mkdir /d; mkdir /d/e; mkdir /f; create /d/e/a",
         "rename /d/e /f/g; rename /f/g /g"),
    CASE("rename-dir-into-itself", "mkdir /d; mkdir /d/e", "EINVAL rename /d /d/e/f"),
    CASE("rename-noreplace", "create /a; create /b", "EEXIST rename /a /b noreplace; rename /a /c noreplace"),
    CASE("rename-exchange", "file /a 100 1; mkdir /d; file /d/b 5000 2; link /a /c",
         "rename /a /d/b exchange; rename /a /c exchange"),
    CASE("rename-exchange-dirs", "mkdir /d; mkdir /d/e; create /d/e/x; mkdir /f; mkdir /f/g; create /f/h",
         "rename /d/e /f/g exchange; rename /d/e /f/h exchange; rename /d /f exchange"),
    CASE("rename-whiteout", "mkdir /d; create /d/a; create /d/b; mkdir /e",
         "rename /d/a /d/c whiteout; rename /d/b /e/b whiteout; rename /d/c /d/a whiteout"),
    CASE("rename-grows", "mkdir /d; mkdir /e; many /d 14 240; file /e/y 5000",
         "rename /e/y /d/y%d" LONG "; link /d/0 /e/y", .repeat = 5),
    CASE("rename-of-one-inode", "create /a; link /a /b", "rename /a /b"),

    /* ---- directories that grow and shrink ---- */
    CASE("dir-grows", "mkdir /d; create /f", "link /f /d/%d-" LONG, .repeat = 120),
    CASE("dir-grows-short", "mkdir /d; many /d 118 10; create /f", "link /f /d/s%d", .repeat = 30),
    CASE("dir-grows-middle", "mkdir /d; many /d 40 60; create /f", "link /f /d/%d-" X50, .repeat = 40),
    CASE("dir-shrinks", "mkdir /d; many /d 130 200", "unlinkfirst /d", .repeat = 130),
    CASE("dir-churns", "mkdir /d; create /f; link /f /d/a; link /f /d/b; link /f /d/c; link /f /d/d",
         "link /f /d/%d-" LONG "; rename /d/%d-" LONG " /d/%d-y; unlink /d/%d-y", .repeat = 18),

    /* ---- sizes ---- */
    CASE("truncate-up", "file /a 5000", "truncate /a 5001; truncate /a 50000; truncate /a 10K"),
    CASE("truncate-down", "file /a 60000",
         "truncate /a 50000; truncate /a 40K; truncate /a 100; truncate /a 0"),
    CASE("truncate-within", "file /a 4000",
         "truncate /a 3999; truncate /a 8; truncate /a 1; truncate /a 4000"),
    CASE("truncate-fragmented", "scatter /a 60", "truncate /a 100000; truncate /a 5000; truncate /a 0"),
    CASE("truncate-very-fragmented", "sparse /a 200", "truncate /a 1000000; truncate /a 7; truncate /a 0"),
    CASE("truncate-allocated", "file /a 100; fallocate /a 0 100000 keep",
         "truncate /a 50; truncate /a 100000; truncate /a 0"),
    CASE("truncate-hole", "create /a; truncate /a 100000", "truncate /a 50000; truncate /a 0"),

    /* ---- writes ---- */
    CASE("write-first", "create /a", "write /a 0 1 1; write /a 1 100 2"),
    CASE("write-first-block", "create /a", "write /a 0 4096 1; write /a 4096 4096 2"),
    CASE("write-first-large", "create /a", "write /a 0 64K 1; write /a 64K 65535 2"),
    CASE("write-first-behind", "create /a", "write /a 100000 10 1; write /a 50000 10 2"),
    CASE("write-over", "file /a 20000 1",
         "write /a 0 10 2; write /a 4090 12 3; write /a 0 20000 4; write /a 8192 4096 5"),
    CASE("write-over-64k", "file /a 70000 1", "write /a 100 64K 2; write /a 0 64K 3"),
    CASE("write-over-fragmented", "scatter /a 40", "write /a 1 64K 2; write /a 4096 64K 3"),
    CASE("write-append", "file /a 100 1",
         "write /a 0 1 2 append; write /a 0 5000 3 append; write /a 0 4096 4 append; write /a 0 50000 5 "
         "append"),
    CASE("write-spans-end", "file /a 5000 1",
         "write /a 4000 3000 2; write /a 6999 2 3; write /a 5000 60000 4"),
    CASE("write-hole", "sparse /a 20", "write /a 4096 4096 2; write /a 12288 100 3; write /a 21000 20 4"),
    CASE("write-mixed", "sparse /a 20", "write /a 1 64K 2; write /a 64K 64K 3"),
    CASE("write-mixed-fragmented", "sparse /a 12; fallocate /a 30000 9000 keep; truncate /a 40000",
         "write /a 4000 60000 2"),
    CASE("write-allocated", "create /a; fallocate /a 0 100000 keep",
         "write /a 5 10 1; write /a 9000 30000 2"),
    CASE("write-large", "create /a", "write /a 0 200K 1", .judge = JUDGE_PREFIX),
    CASE("write-large-over", "file /a 250K 1", "write /a 1000 200K 2", .judge = JUDGE_PREFIX),
    CASE("write-large-mixed", "sparse /a 30", "write /a 5000 200K 2", .judge = JUDGE_PREFIX),
    CASE("write-large-spans-end", "file /a 100K 1", "write /a 50K 150K 2", .judge = JUDGE_PREFIX),
    CASE("write-large-append", "file /a 99999 1", "write /a 0 100K 2 append", .judge = JUDGE_PREFIX),
    CASE("write-large-allocated", "file /a 4000 1; fallocate /a 0 300K keep", "write /a 100 200K 2",
         .judge = JUDGE_PREFIX),
    CASE("write-kill", "file /a 10 1; chmod /a 06775", "write /a 5 10 2 kill"),
    CASE("write-kill-capability",
         "file /a 10 1; setxattr /a security.capability 20 1; setxattr /a user.x 10 1",
         "write /a 5 10 2 kill", .judge = JUDGE_STEPS, .step = "removexattr /a security.capability"),
    CASE("read", "file /a 5000", "read /a 10"),

    /* ---- maps ---- */
    CASE("map-root-grows", "sparse /a 6 3",
         "write /a 72K 1 1; write /a 84K 1 1; write /a 96K 1 1; write /a 8K 1 1"),
    CASE("map-root-grows-low", "sparse /a 7 3", "write /a 8K 1 1"),
    CASE("map-node-appends", "sparse /a 253 3", "write /a 3036K 1 1; write /a 3048K 1 1; write /a 3060K 1 1"),
    CASE("map-node-splits-low", "sparse /a 254 3", "write /a 8K 1 1; write /a 20K 1 1"),
    CASE("map-node-splits-middle", "sparse /a 254 3", "write /a 1520K 1 1"),
    CASE("map-node-splits-above", "sparse /a 254 3", "write /a 1532K 1 1; write /a 2000K 1 1"),
    CASE("map-node-splits-high", "sparse /a 254 3", "write /a 3032K 1 1; write /a 200K 1 1"),
    CASE("map-node-splits-64k", "sparse /a 250 3", "write /a 20K 64K 1"),
    CASE("map-first-entry", "create /a; write /a 100K 1 1", "write /a 50K 1 1; write /a 10K 1 1"),
    CASE("map-shrinks", "sparse /a 256; truncate /a 80K",
         "truncate /a 60K; truncate /a 50K; truncate /a 8K; truncate /a 4K"),

    /* ---- fallocate ---- */
    CASE("fallocate", "create /a; file /b 5000",
         "fallocate /a 0 10000; fallocate /a 20000 1; fallocate /b 100 200; fallocate /b 0 6000",
         .judge = JUDGE_BLOCKS),
    CASE("fallocate-keep", "file /a 100 1", "fallocate /a 0 50000 keep; fallocate /a 0 100 keep",
         .judge = JUDGE_BLOCKS),
    CASE("fallocate-holes", "sparse /a 20", "fallocate /a 4096 50000", .judge = JUDGE_BLOCKS),
    CASE("fallocate-large", "create /a", "fallocate /a 0 1500K", .judge = JUDGE_BLOCKS),
    CASE("fallocate-full", "create /a; full 10", "ENOSPC fallocate /a 0 100000; fallocate /a 0 40000",
         .judge = JUDGE_BLOCKS),
    CASE("punch", "file /a 60000 1",
         "fallocate /a 8192 8192 punch; fallocate /a 100 200 punch; fallocate /a 30000 10000 punch"),
    CASE("punch-middle", "file /a 60000 1; fallocate /a 8192 100 punch",
         "fallocate /a 12288 4096 punch; fallocate /a 0 60000 punch"),
    CASE("punch-fragmented", "scatter /a 60", "fallocate /a 5000 150000 punch; fallocate /a 0 4096 punch"),
    CASE("punch-hole", "sparse /a 10", "fallocate /a 4096 4096 punch; fallocate /a 0 70000 punch"),
    CASE("punch-node-splits", "create /f; many / 2 10; sparse /a 253; write /a 2100000 9000 1",
         "fallocate /a 2101248 4096 punch"),
    CASE("zero", "file /a 60000 1",
         "fallocate /a 100 40000 zero; fallocate /a 50000 30000 zero; fallocate /a 9000 100 zerokeep",
         .judge = JUDGE_BLOCKS),
    CASE("zero-fragmented", "scatter /a 30", "fallocate /a 5000 100000 zero", .judge = JUDGE_BLOCKS),
    CASE("copy", "file /a 30000 1; create /b", "copy /a 0 /b 0 30000; copy /a 5000 /b 100 5000"),
    CASE("copy-large", "create /b; file /a 200K 1", "copy /a 100 /b 0 150K; copy /a 0 /b 200K 130K",
         .judge = JUDGE_PREFIX),

    /* ---- attributes ---- */
    CASE("chmod", "create /a; mkdir /d", "chmod /a 0600; chmod /d 01777; chown /a 5 6"),
    CASE("chmod-acl", "create /a; acl /a named; setxattr /a user.x 9000 1", "chmod /a 0640; chmod /a 0777"),
    CASE("chown-kills", "create /a; chmod /a 06755", "chown /a 5 6"),
    CASE("size-and-mode", "file /a 60000; acl /a named", "resetmode /a 100 0600", .judge = JUDGE_STEPS,
         .step = "chmod /a 0600"),
    CASE("setxattr", "create /a",
         "setxattr /a user.a 5 1; setxattr /a user.b 6 2; setxattr /a user.a 7 3; setxattr /a user.c 0 0"),
    CASE("setxattr-large", "create /a; setxattr /a user.a 10 1",
         "setxattr /a user.l 20000 1; setxattr /a user.m 64K 2"),
    CASE("setxattr-replace", "create /a; setxattr /a user.a 30000 1; setxattr /a user.b 30 2",
         "setxattr /a user.a 30000 3; setxattr /a user.a 10 3; setxattr /a user.a 9000 4 replace"),
    CASE("setxattr-fails", "create /a; setxattr /a user.a 10 1",
         "EEXIST setxattr /a user.a 9 1 create; ENODATA setxattr /a user.b 9 1 replace; ENODATA removexattr "
         "/a user.b"),
    CASE("removexattr",
         "create /a; setxattr /a user.a 10 1; setxattr /a user.b 20000 1; setxattr /a user.c 10 1",
         "removexattr /a user.b; removexattr /a user.a; removexattr /a user.c"),
    CASE("acl", "create /a; mkdir /d",
         "acl /a named; acl /a small; acl /d named; defacl /d named; defacl /d small"),
    CASE("acl-on-xattrs", "create /a; setxattr /a user.a 9000 1", "acl /a named; acl /a small"),

    /* ---- uses ---- */
    CASE("ref", "create /a", "ref /a; ref /a"),
    CASE("forget", "create /a; hold /a; ref /a", "drop; drop"),

    /* ---- opens: an inode lives as long as somebody has it open ---- */
    CASE("open", "create /a; mkdir /d", "open /a; open /a; open /d dir; close /a; close /a; close /d"),
    CASE("open-creat", "mkdir /d; mkdir /e; defacl /e named",
         "open /d/a creat; open /d/a creat; EEXIST open /d/a excl; open /e/b excl; close /d/a"),
    CASE("open-trunc", "file /a 60000 1; scatter /b 20", "open /a trunc; open /b trunc"),
    CASE("open-full", "mkdir /d; fullinodes", "ENOSPC open /d/a creat; ENOSPC open /d tmp"),
    CASE("open-tmp", "mkdir /d", "open /d tmp; write . 0 9000 1; flink /d/x; close ."),
    CASE("open-tmp-closed", "mkdir /d; open /d tmp; write . 0 70000 1", "held; close .; ESTALE held"),
    CASE("unlink-open", "file /a 9000; setxattr /a user.x 5000 1; open /a",
         "unlink /a; write . 0 50000 2; truncate . 100; held; close .; ESTALE held"),
    CASE("unlink-open-fragmented", "scatter /a 30; setxattr /a user.x 9000 2; open /a; unlink /a", "close ."),
    CASE("unlink-open-elsewhere", "file /a 9000; other open /a",
         "unlink /a; held; write . 0 20000 2; truncate . 5; open /b creat"),
    CASE("unlink-open-thrice", "file /a 9000; open /a; open /a; other open /a; unlink /a",
         "close .; held; close .; held"),
    CASE("unlink-open-and-held", "file /a 9000; open /a; hold /a; unlink /a",
         "close .; held; drop; ESTALE held"),
    CASE("rename-over-open", "file /a 100 1; file /b 9000 2; open /b", "rename /a /b; held; close ."),
    CASE("rmdir-open", "mkdir /d; open /d dir", "rmdir /d; held; close .; ESTALE held"),
    CASE("open-by-path", "file /a 9000; link /a /z",
         "ptruncate /a 5000; pchmod /a 0600; psetxattr /a user.x 50 1; plink /a /b; punlink /z; prename /a "
         "/b; "
         "pmkdir /d; prename /b /d/b"),

    /* ---- pins: blocks that somebody has a pointer to stay ---- */
    CASE("map", "file /a 60000 1; scatter /s 9",
         "map /a 0 60000; unmap /a; map /s 4096 30000; unmap /s; ENXIO map /a 0 100000"),
    CASE("map-fills", "sparse /a 9", "map /a 0 30000; unmap /a", .judge = JUDGE_BLOCKS),
    CASE("map-twice", "file /a 9000 1; map /a 0 4096", "map /a 4096 4096 ro; unmap /a; unmap /a"),
    CASE("map-elsewhere", "file /a 9000 1; other map /a 0 9000",
         "map /a 0 9000; unmap /a; open /a; close /a"),
    CASE("pinned-sizes", "file /a 60000 1; map /a 0 60000",
         "truncate /a 5000; truncate /a 40000; truncate /a 0; truncate /a 60000; unmap /a"),
    CASE("pinned-sizes-elsewhere", "file /a 60000 1; other map /a 0 60000; poke /a 30000 9000 9",
         "truncate /a 35000; truncate /a 45000; truncate /a 100; truncate /a 0; truncate /a 70000"),
    CASE("pinned-grows", "file /a 60000 1; other map /a 0 60000; truncate /a 5000; poke /a 5000 40000 9",
         "truncate /a 6000; write /a 9000 100 2; write /a 0 9000 3 append; fallocate /a 20000 5000; truncate "
         "/a "
         "70000"),
    CASE("pinned-writes", "file /a 60000 1; other map /a 0 60000; truncate /a 20000; poke /a 20000 40000 9",
         "write /a 10 60000 2; write /a 60000 64K 3"),
    CASE("pinned-writes-large",
         "file /a 150K 1; other map /a 0 100K; truncate /a 20000; poke /a 20000 80000 9",
         "write /a 10000 130K 2", .judge = JUDGE_PREFIX),
    CASE("pinned-punch", "file /a 150K 1; other map /a 0 8192",
         "fallocate /a 5000 30000 punch; fallocate /a 0 150K punch", .judge = JUDGE_PREFIX),
    CASE("pinned-zero", "file /a 60000 1; fallocate /a 8192 8192 punch; other map /a 0 4096",
         "fallocate /a 5000 30000 zerokeep; fallocate /a 50000 30000 zero", .judge = JUDGE_PREFIX),
    CASE("pinned-allocated", "file /a 9000 1; other map /a 0 4096",
         "fallocate /a 0 100000; fallocate /a 0 200K keep", .judge = JUDGE_BLOCKS),
    CASE("unpin-trims", "file /a 60000 1; map /a 0 60000; truncate /a 5000; poke /a 5000 40000 9",
         "unmap /a"),
    CASE("unpin-trims-fragmented", "scatter /a 40; map /a 0 100000; truncate /a 5000; poke /a 5000 40000 9",
         "unmap /a; truncate /a 60000"),
    CASE("unpin-one-of-two",
         "file /a 60000 1; map /a 0 60000; other map /a 0 4096; truncate /a 5000; poke /a 5000 40000 9",
         "unmap /a"),
    CASE("unpin-unlinked", "file /a 60000 1; open /a; map /a 0 60000; close /a; unlink /a",
         "held; unmap .; ESTALE held"),
    CASE("unlink-pinned", "scatter /a 20; map /a 0 60000; open /a; other map /a 0 4096",
         "unlink /a; unmap .; close .; held"),
    CASE("msync", "file /a 9000 1; map /a 0 9000; poke /a 0 9000 2", "msync /a"),
    CASE("uses-of-the-dead",
         "file /a 60000 1; scatter /b 20; file /c 100; open /a; open /b; open /b; open /c; map /a 0 60000; "
         "map /b 0 "
         "9000; truncate /a 5000; poke /a 5000 40000 9; lock /a 0 9 w; lock /a 20 29 r; lock /c 0 99 r; "
         "other open "
         "/b; unlink /b; unlink /c",
         "create /z"),

    /* ---- byte-range locks ---- */
    CASE("lock", "create /a; open /a",
         "lock /a 0 99 w; lock /a 200 299 r; lock /a 300 399 r; unlock /a 0 1000"),
    CASE("lock-splits", "create /a; lock /a 0 99 r", "lock /a 40 59 w; unlock /a 45 50; lock /a 0 99 r"),
    CASE("lock-merges", "create /a; lock /a 0 9 r; lock /a 20 29 r; lock /a 30 39 w; lock /a 50 59 w",
         "lock /a 10 19 r; lock /a 25 55 w; unlock /a 5 100"),
    CASE("lock-elsewhere", "create /a; other lock /a 50 59 r; other lock /a 0 0 w flock",
         "EAGAIN lock /a 0 99 w; lock /a 0 99 r; unlock /a 55 200; EAGAIN lock /a 0 0 r flock"),
    CASE("lock-kinds", "create /a; open /a",
         "lock /a 0 9 w; lock /a 20 29 w ofd; lock /a 0 0 r flock; lock /a 0 0 w flock; lock /a 25 40 w ofd; "
         "unlock /a 0 0 flock; close /a"),
    CASE("lock-full",
         "create /a; lock /a 0 9 r; lock /a 20 29 r; lock /a 100 199 w; other lock /a 50 59 r; fullranges 0",
         "ENOLCK lock /a 10 19 r; ENOLCK unlock /a 120 130; unlock /a 150 200; unlock /a 20 29; lock /a 7 15 "
         "r"),
    CASE("lock-nearly-full", "create /a; lock /a 0 99 r; fullranges 1",
         "ENOLCK lock /a 40 59 w; unlock /a 40 59"),
    CASE("lock-unlinked", "create /a; open /a; lock /a 0 9 w; lock /a 20 29 r; unlink /a",
         "close .; create /b"),

    /* ---- rollback by the living ---- */
    CASE("full-create", "mkdir /d; full 0",
         "ENOSPC create /d/a; ENOSPC mkdir /d/b; ENOSPC symlink /d/s 3000; mkdir /e"),
    CASE("full-dir-grows", "mkdir /d; many /d 16 238; create /f; full 0", "ENOSPC link /f /d/%d-" LONG,
         .repeat = 1),
    CASE("full-write", "file /a 100 1; full 5", "write /a 0 60000 2; write /a 50 5000 3",
         .judge = JUDGE_PREFIX),
    CASE("full-write-fragmented", "sparse /a 9; full 3", "write /a 5 40000 2", .judge = JUDGE_PREFIX),
    CASE("full-write-none", "create /a; full 0", "ENOSPC write /a 0 60000 2; ENOSPC write /a 0 100K 2"),
    CASE("full-write-large", "file /a 100 1; full 30", "write /a 50 200K 2", .judge = JUDGE_PREFIX),
    CASE("full-xattr", "create /a; setxattr /a user.a 10 1; full 2",
         "ENOSPC setxattr /a user.b 20000 2; setxattr /a user.b 4000 2"),
    CASE("full-rename", "mkdir /d; mkdir /e; create /e/a; full 0", "ENOSPC rename /e/a /d/a"),
    CASE("full-inodes", "mkdir /d; create /d/x; create /a; fullinodes",
         "ENOSPC create /d/a; ENOSPC rename /d/x /d/y whiteout; unlink /a; create /d/b"),
};
const size_t ncases = COUNT(cases);

/*
 * Two groups of 1,023 and 1,024 blocks: /full fills the first but for some, /span gets the rest of it and a part
 * of the second, and what is made after it lies in the second. A, whose slot is 0, is at home in the first.
 */
#define TWO_GROUPS \
    "file /low 100 1; mkdir /d; many /d 19 200; full 1100; file /span 400K 1; mkdir /e; many /e 19 200; " \
    "setxattr /e user.x 9000 1; create /high; fallocate /high 0 2000K; file /tail 9000 1; scatter /s 20"
#define TWO_GROUPS_OPS \
    { \
        "unlink /span", "truncate /span 5000", "write /span 10K 60000 2", "create /d/s0" LONG, \
            "create /e/s1" LONG, "mkdir /e/s2" LONG, "link /low /e/s3" LONG, "write /low 0 60000 2", \
            "rename /tail /low", "setxattr /e user.x 20000 2", "setxattr /low user.y 9000 2", \
            "unlink /high", "create /new", "symlink /e/l 3000", "unlink /s", "rename /low /span", \
            "fallocate /span 100000 200000 punch" \
    }

const struct crash_world worlds[] = {
    {
        .name = "small",
        .size = 2 << 20,
        .setup = "mkdir /d; mkdir /e; file /d/a 9000 1; file /d/b 100 2; file /e/c 20000 3; mkdir /d/sub; "
                 "mkdir /e/sub; create /d/sub/x; file /f 70000 4; setxattr /f user.x 5000 1; scatter /g 20; "
                 "many /e 12 240; hold /g",
        .ops = { "create /d/new",
                 "create /e/new",
                 "mkdir /d/sub/new",
                 "unlink /d/a",
                 "unlink /f",
                 "unlink /g",
                 "drop",
                 "rename /d/a /e/c",
                 "rename /e/c /d/a",
                 "rename /d/a /d/b exchange",
                 "rename /d/sub /e/sub2",
                 "rename /e/sub /d/sub/y",
                 "rename /d/a /e/w whiteout",
                 "link /d/b /e/l",
                 "rmdir /e/sub",
                 "write /f 10 60000 5",
                 "write /f 0 9000 6 append",
                 "write /d/a 100 3000 7",
                 "truncate /f 100",
                 "truncate /g 5000",
                 "fallocate /f 4096 20000 punch",
                 "setxattr /f user.x 9000 2",
                 "chmod /d 0700",
                 "look /d/sub/x",
                 "list /d",
                 "read /f 100" },
    },
    /* Files that both have open, mapped and locked; "." has no name any more. */
    {
        .name = "uses",
        .size = 2 << 20,
        .setup =
            "file /f 60000 1; file /g 9000 2; file /h 30000 3; open /f; other open /f; map /f 0 60000; "
            "other map /f 0 60000; lock /f 0 99 r; other lock /f 200 299 w; file /k 20000 4; map /k 0 20000; "
            "truncate /k 100; open /h; other open /h; unlink /h",
        .ops = { "close .",
                 "close /f",
                 "unmap /f",
                 "unmap /k",
                 "open /k",
                 "unlink /k",
                 "open /f",
                 "open /g",
                 "open /g creat",
                 "open /n excl",
                 "open /g trunc",
                 "map /g 0 9000",
                 "map /f 0 4096",
                 "unlink /g",
                 "unlink /f",
                 "rename /g /f",
                 "plink /g /k",
                 "pchmod /g 0600",
                 "truncate /f 100",
                 "truncate /f 70000",
                 "write /f 50000 20000 5",
                 "write . 0 9000 6",
                 "fallocate /f 0 4096 punch",
                 "lock /f 50 150 r",
                 "lock /f 250 400 w",
                 "unlock /f 50 60",
                 "create /n" },
    },
    /* The last free inode is in the hands of the dead. */
    {
        .name = "last-inode",
        .size = 2 << 20,
        .setup = "mkdir /d; mkdir /e; fullinodes; unlink /fill7",
        .ops = { "create /d/a", "mkdir /e/b", "symlink /d/c 3000", "unlink /fill9", "tmpfile /d" },
    },
    /* The only free inode is one that the dead freed. */
    {
        .name = "freed-inode",
        .size = 2 << 20,
        .setup = "mkdir /d; mkdir /e; create /f; link /f /g; fullinodes",
        .ops = { "unlink /fill9", "create /d/a", "rename /f /fill5", "mkdir /e/b" },
    },
    /* The last free blocks are in the hands of the dead. */
    {
        .name = "last-blocks",
        .size = 2 << 20,
        .setup = "mkdir /d; create /d/z; create /a; create /b; create /c; file /e 30000; full 15",
        .ops = { "write /a 0 60000 1", "write /b 0 60000 2", "symlink /d/s 3000",
                 "setxattr /c user.x 50000 1", "create /new", "unlink /e" },
    },
    { .name = "two-groups", .size = 8 << 20, .setup = TWO_GROUPS, .ops = TWO_GROUPS_OPS },
    { .name = "two-groups-shifted", .size = 8 << 20, .shift = 1, .setup = TWO_GROUPS, .ops = TWO_GROUPS_OPS },
};
const size_t nworlds = COUNT(worlds);
