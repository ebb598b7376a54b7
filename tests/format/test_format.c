/* SPDX-License-Identifier: MIT */
/*
 * The format is pinned here, byte by byte, so that a changed layout cannot land unseen. Whoever
 * means to change it raises FORMAT_VERSION in lib/format.h and mends this table in the same commit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base.h"
#include "format.h"
#include "layout.h"

struct pin {
    const char *name;
    bool whole;       /* a struct; the fields follow */
    size_t off, size; /* as compiled */
    size_t want_off, want_size;
};

#define SIZE(type, want) \
    { \
        "struct " #type, true, 0, sizeof(struct type), 0, want \
    }
#define FIELD(type, field, off, size) \
    { \
#type "." #field, false, offsetof(struct type, field), sizeof(((struct type *)NULL)->field), off, \
            size \
    }
#define FIELD_OPEN(type, field, off) \
    { \
#type "." #field, false, offsetof(struct type, field), 0, off, 0 \
    }

/* clang-format off */
static const struct pin pins[] = {
    SIZE(blkref, 4),
    FIELD(blkref, n, 0, 4),
    SIZE(inoref, 4),
    FIELD(inoref, n, 0, 4),
    SIZE(procref, 8),
    FIELD(procref, v, 0, 8),
    SIZE(offref, 8),
    FIELD(offref, n, 0, 8),
    SIZE(lockword, 8),
    FIELD(lockword, v, 0, 8),
    SIZE(superblock, 208),
    FIELD(superblock, magic, 0, 8),
    FIELD(superblock, byte_order, 8, 8),
    FIELD(superblock, version, 16, 4),
    FIELD(superblock, block_size, 20, 4),
    FIELD(superblock, layout_hash, 24, 8),
    FIELD(superblock, compat, 32, 4),
    FIELD(superblock, ro_compat, 36, 4),
    FIELD(superblock, incompat, 40, 4),
    FIELD(superblock, pad0, 44, 4),
    FIELD(superblock, uuid, 48, 16),
    FIELD(superblock, label, 64, 32),
    FIELD(superblock, hash_seed, 96, 8),
    FIELD(superblock, max_blocks, 104, 8),
    FIELD(superblock, ninodes, 112, 4),
    FIELD(superblock, group_blocks, 116, 4),
    FIELD(superblock, group_inodes, 120, 4),
    FIELD(superblock, ngroups, 124, 4),
    FIELD(superblock, nslots, 128, 4),
    FIELD(superblock, nprocs, 132, 4),
    FIELD(superblock, made, 136, 8),
    FIELD(superblock, checksum, 144, 8),
    FIELD(superblock, pad1, 152, 40),
    FIELD(superblock, nblocks, 192, 8),
    FIELD(superblock, clean, 200, 4),
    FIELD(superblock, pad2, 204, 4),
    SIZE(runtime_id, 56),
    FIELD(runtime_id, boot_id, 0, 40),
    FIELD(runtime_id, dev, 40, 8),
    FIELD(runtime_id, ino, 48, 8),
    SIZE(runtime, 320),
    FIELD(runtime, id, 0, 56),
    FIELD(runtime, next_inc, 56, 8),
    FIELD(runtime, driver, 64, 8),
    FIELD(runtime, mount_epoch, 72, 8),
    FIELD(runtime, nattach, 80, 4),
    FIELD(runtime, driver_mode, 84, 4),
    FIELD(runtime, recall_bell, 88, 4),
    FIELD(runtime, resync, 92, 4),
    FIELD(runtime, driver_late, 96, 4),
    FIELD(runtime, pad, 100, 28),
    FIELD(runtime, rename_lock, 128, 8),
    FIELD(runtime, recall_map, 136, 32),
    FIELD(runtime, pad1, 168, 24),
    FIELD(runtime, gate, 192, 8),
    FIELD(runtime, gate_count, 200, 8),
    FIELD(runtime, base_sequence, 208, 8),
    FIELD(runtime, base, 216, 16),
    FIELD(runtime, base_root, 232, 8),
    FIELD(runtime, keeper, 240, 8),
    FIELD(runtime, pad2, 248, 8),
    FIELD(runtime, sync_wanted, 256, 8),
    FIELD(runtime, sync_done, 264, 8),
    FIELD(runtime, sync_failed, 272, 8),
    FIELD(runtime, sync_error, 280, 4),
    FIELD(runtime, pad3, 284, 36),
    SIZE(proc_entry, 128),
    FIELD(proc_entry, inc, 0, 8),
    FIELD(proc_entry, pid, 8, 4),
    FIELD(proc_entry, uid, 12, 4),
    FIELD(proc_entry, pid_ns, 16, 8),
    FIELD(proc_entry, start_time, 24, 8),
    FIELD(proc_entry, attached, 32, 8),
    FIELD(proc_entry, flags, 40, 4),
    FIELD(proc_entry, pad, 44, 4),
    FIELD(proc_entry, name, 48, 32),
    FIELD(proc_entry, pad1, 80, 48),
    SIZE(todo, 24),
    FIELD(todo, op, 0, 4),
    FIELD(todo, ino, 4, 4),
    FIELD(todo, from, 8, 8),
    FIELD(todo, to, 16, 8),
    SIZE(redo, 16),
    FIELD(redo, to, 0, 8),
    FIELD(redo, len, 8, 4),
    FIELD(redo, from, 12, 4),
    SIZE(slot, 196608),
    FIELD(slot, word, 0, 8),
    FIELD(slot, inc, 8, 8),
    FIELD(slot, owner, 16, 8),
    FIELD(slot, recovery, 24, 8),
    FIELD(slot, todo, 32, 24),
    FIELD(slot, nlocks, 56, 4),
    FIELD(slot, nredo, 60, 4),
    FIELD(slot, closing, 64, 4),
    FIELD(slot, recalled_for, 68, 4),
    FIELD(slot, waited_since, 72, 8),
    FIELD(slot, outside, 80, 4),
    FIELD(slot, pad, 84, 108),
    FIELD(slot, locks, 192, 512),
    FIELD(slot, redo, 704, 320),
    FIELD(slot, recall, 1024, 696),
    FIELD(slot, pad1, 1720, 2376),
    FIELD(slot, log, 4096, 126976),
    FIELD(slot, stage, 131072, 65536),
    SIZE(recall_inode, 32),
    FIELD(recall_inode, ino, 0, 4),
    FIELD(recall_inode, kinds, 4, 4),
    FIELD(recall_inode, grants, 8, 4),
    FIELD(recall_inode, pad, 12, 4),
    FIELD(recall_inode, from, 16, 8),
    FIELD(recall_inode, to, 24, 8),
    SIZE(recall_name, 272),
    FIELD(recall_name, dir, 0, 4),
    FIELD(recall_name, ino, 4, 4),
    FIELD(recall_name, dir_grants, 8, 4),
    FIELD(recall_name, ino_grants, 12, 4),
    FIELD(recall_name, len, 16, 1),
    FIELD(recall_name, name, 17, 255),
    SIZE(recall, 696),
    FIELD(recall, state, 0, 4),
    FIELD(recall, ninodes, 4, 4),
    FIELD(recall, nnames, 8, 4),
    FIELD(recall, unrecalled, 12, 4),
    FIELD(recall, pad, 16, 8),
    FIELD(recall, inodes, 24, 128),
    FIELD(recall, names, 152, 544),
    SIZE(undo, 16),
    FIELD(undo, off, 0, 8),
    FIELD(undo, len, 8, 4),
    FIELD(undo, size, 12, 4),
    SIZE(use_bucket, 64),
    FIELD(use_bucket, overflow, 0, 8),
    FIELD(use_bucket, records, 8, 56),
    SIZE(range, 64),
    FIELD(range, owner, 0, 8),
    FIELD(range, key, 8, 8),
    FIELD(range, start, 16, 8),
    FIELD(range, end, 24, 8),
    FIELD(range, ino, 32, 4),
    FIELD(range, next, 36, 4),
    FIELD(range, pid, 40, 4),
    FIELD(range, type, 44, 2),
    FIELD(range, kind, 46, 2),
    FIELD(range, since, 48, 8),
    FIELD(range, pad, 56, 8),
    SIZE(inode_rt, 64),
    FIELD(inode_rt, lock, 0, 8),
    FIELD(inode_rt, seq, 8, 8),
    FIELD(inode_rt, nlookup, 16, 8),
    FIELD(inode_rt, epoch, 24, 4),
    FIELD(inode_rt, leases, 28, 4),
    FIELD(inode_rt, wanted, 32, 4),
    FIELD(inode_rt, grants, 36, 4),
    FIELD(inode_rt, cool, 40, 4),
    FIELD(inode_rt, ranges, 44, 4),
    FIELD(inode_rt, waiting, 48, 4),
    FIELD(inode_rt, range_seq, 52, 4),
    FIELD(inode_rt, range_waiting, 56, 4),
    FIELD(inode_rt, dropping, 60, 2),
    FIELD(inode_rt, turn, 62, 2),
    SIZE(group_rt, 64),
    FIELD(group_rt, lock, 0, 8),
    FIELD(group_rt, block_hint, 8, 4),
    FIELD(group_rt, inode_hint, 12, 4),
    FIELD(group_rt, reserved, 16, 16),
    FIELD(group_rt, inode_reserved, 32, 8),
    FIELD(group_rt, pad, 40, 24),
    SIZE(group_desc, 64),
    FIELD(group_desc, free_blocks, 0, 4),
    FIELD(group_desc, free_inodes, 4, 4),
    FIELD(group_desc, pad, 8, 56),
    SIZE(extent, 16),
    FIELD(extent, pos, 0, 8),
    FIELD(extent, blk, 8, 4),
    FIELD(extent, len, 12, 4),
    SIZE(stamp, 16),
    FIELD(stamp, sec, 0, 8),
    FIELD(stamp, nsec, 8, 4),
    FIELD(stamp, pad, 12, 4),
    SIZE(inode, 256),
    FIELD(inode, mode, 0, 4),
    FIELD(inode, generation, 4, 4),
    FIELD(inode, nlink, 8, 4),
    FIELD(inode, flags, 12, 4),
    FIELD(inode, uid, 16, 4),
    FIELD(inode, gid, 20, 4),
    FIELD(inode, size, 24, 8),
    FIELD(inode, blocks, 32, 8),
    FIELD(inode, version, 40, 8),
    FIELD(inode, rdev, 48, 8),
    FIELD(inode, parent, 56, 4),
    FIELD(inode, xattr, 60, 4),
    FIELD(inode, atime, 64, 16),
    FIELD(inode, mtime, 80, 16),
    FIELD(inode, ctime, 96, 16),
    FIELD(inode, btime, 112, 16),
    FIELD(inode, map_level, 128, 4),
    FIELD(inode, map_count, 132, 4),
    FIELD(inode, xattr_blocks, 136, 4),
    FIELD(inode, pad, 140, 4),
    FIELD(inode, root, 144, 112),
    FIELD(inode, inline_target, 144, 112),
    SIZE(node, 4096),
    FIELD(node, magic, 0, 4),
    FIELD(node, owner, 4, 4),
    FIELD(node, level, 8, 4),
    FIELD(node, count, 12, 4),
    FIELD(node, pad, 16, 16),
    FIELD(node, entries, 32, 4064),
    SIZE(dslot, 16),
    FIELD(dslot, key, 0, 8),
    FIELD(dslot, ino, 8, 4),
    FIELD(dslot, off, 12, 2),
    FIELD(dslot, len, 14, 1),
    FIELD(dslot, type, 15, 1),
    SIZE(dname, 4),
    FIELD(dname, generation, 0, 4),
    FIELD_OPEN(dname, name, 4),
    SIZE(bucket, 4096),
    FIELD(bucket, magic, 0, 4),
    FIELD(bucket, owner, 4, 4),
    FIELD(bucket, count, 8, 2),
    FIELD(bucket, low, 10, 2),
    FIELD(bucket, live, 12, 2),
    FIELD(bucket, pad, 14, 2),
    FIELD(bucket, pad1, 16, 16),
    FIELD(bucket, slots, 32, 4064),
    SIZE(xattr_block, 4096),
    FIELD(xattr_block, magic, 0, 4),
    FIELD(xattr_block, owner, 4, 4),
    FIELD(xattr_block, next, 8, 4),
    FIELD(xattr_block, len, 12, 4),
    FIELD(xattr_block, data, 16, 4080),
    SIZE(xattr_entry, 8),
    FIELD(xattr_entry, value_len, 0, 4),
    FIELD(xattr_entry, name_len, 4, 1),
    FIELD(xattr_entry, pad, 5, 3),
};
/* clang-format on */

static void test_format_version_is_4(void **state)
{
    assert_int_equal(FORMAT_VERSION, 4);
}

static void test_format_every_struct_and_field_is_where_it_was(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
        const struct pin *p = &pins[i];
        if (p->off != p->want_off || p->size != p->want_size)
            fail_msg("%s: %zu bytes at %zu; format version %d has %zu at %zu", p->name, p->size, p->off,
                     FORMAT_VERSION, p->want_size, p->want_off);
    }
}

/* No hole that a compiler could lay out otherwise, no field that the table does not know. */
static void test_format_every_byte_belongs_to_a_pinned_field(void **state)
{
    size_t end = 0, start = 0;
    const struct pin *whole = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
        const struct pin *p = &pins[i];
        if (p->whole) {
            if (whole && end != whole->size)
                fail_msg("%s: its last %zu bytes are in no field", whole->name, whole->size - end);
            whole = p;
            start = end = 0;
            continue;
        }
        if (p->off != end && p->off != start) /* members of a union start where the one before does */
            fail_msg("%s: begins at %zu, the field before ends at %zu", p->name, p->off, end);
        start = p->off;
        end = MAX(end, p->off + p->size);
    }
    assert_non_null(whole);
    assert_int_equal(end, whole->size);
}

static void test_format_constants_are_what_they_were(void **state)
{
    assert_int_equal(BLOCK_SHIFT, 12);
    assert_int_equal(BLOCK_SIZE, 4096);
    assert_int_equal(CACHE_LINE, 64);
    assert_int_equal(CHUNK_BLOCKS, 256);
    assert_int_equal(CHUNK_SIZE, 1048576);
    assert_int_equal(GROUP_BLOCKS_MAX, 32768);
    assert_int_equal(GROUP_BLOCKS_MIN, 1024);
    assert_int_equal(GROUP_CHUNKS_MAX, 128);
    assert_int_equal(INODE_CHUNK, 512);
    assert_int_equal(GROUP_INODES_MAX, 32768);
    assert_int_equal(GROUP_INODES_MIN, 64);
    assert_int_equal(NAME_MAX_BYTES, 255);
    assert_int_equal(SLOT_SIZE, 196608);
    assert_int_equal(SLOT_HEAD, 4096);
    assert_int_equal(SLOT_STAGE, 65536);
    assert_int_equal(SLOT_LOG, 126976);
    assert_int_equal(SLOT_LOCKS, 64);
    assert_int_equal(SLOT_REDO, 20);
    assert_int_equal(INODE_SIZE, 256);
    assert_int_equal(INODE_EXTENTS, 7);
    assert_int_equal(INODE_INLINE, 112);
    assert_int_equal(MAP_LEVELS_MAX, 8);
    assert_int_equal(XATTR_VALUE_MAX, 65536);
    assert_int_equal(XATTR_BLOCKS_MAX, 64);
    assert_int_equal(LINK_MAX_COUNT, 0x7fffffff);
    assert_int_equal(PROC_DRIVER, 1);
    assert_int_equal(PROC_RDONLY, 2);
    assert_int_equal(SLOT_IDLE, 0);
    assert_int_equal(SLOT_REDO_ON, 1);
    assert_int_equal(TODO_NONE, 0);
    assert_int_equal(TODO_REAP, 1);
    assert_int_equal(TODO_TRIM, 2);
    assert_int_equal(TODO_CHAIN, 3);
    assert_int_equal(INODE_LINK_INLINE, 1);
    assert_int_equal(NODE_ENTRIES, 254);
    assert_int_equal(KEY_HASH_BITS, 46);
    assert_int_equal(KEY_TIE_BITS, 16);
    assert_int_equal(BUCKET_HEAD, 32);
    assert_int_equal(FORMAT_BYTE_ORDER, 0x102030405060708);
    assert_int_equal(FORMAT_COMPAT_KNOWN, 0);
    assert_int_equal(FORMAT_RO_COMPAT_KNOWN, 0);
    assert_int_equal(FORMAT_INCOMPAT_KNOWN, 0);
    assert_int_equal(NODE_MAGIC, 0x65646f6e);
    assert_int_equal(BUCKET_MAGIC, 0x74656b62);
    assert_int_equal(XATTR_MAGIC, 0x74747478);
    assert_int_equal(ROOT_INO, 1);
    assert_memory_equal(FORMAT_MAGIC, "shmfs\r\n\x1a", 9);
}

static void fill(struct superblock *sb)
{
    memset(sb, 0, sizeof(*sb));
    memcpy(sb->magic, FORMAT_MAGIC, sizeof(sb->magic));
    sb->byte_order = FORMAT_BYTE_ORDER;
    sb->version = FORMAT_VERSION;
    sb->block_size = BLOCK_SIZE;
    sb->layout_hash = 0x1112131415161718;
    sb->compat = 0x21222324;
    sb->ro_compat = 0x25262728;
    sb->incompat = 0x292a2b2c;
    for (unsigned i = 0; i < sizeof(sb->uuid); i++)
        sb->uuid[i] = (uint8_t)(0x30 + i);
    memcpy(sb->label, "label", 5);
    sb->hash_seed = 0x4142434445464748;
    sb->max_blocks = 0x5152535455565758;
    sb->ninodes = 0x61626364;
    sb->group_blocks = 0x65666768;
    sb->group_inodes = 0x696a6b6c;
    sb->ngroups = 0x6d6e6f70;
    sb->nslots = 0x71727374;
    sb->nprocs = 0x75767778;
    sb->made = 0x7b7c7d7e7f808182;
    sb->checksum = 0x9192939495969798;
    sb->nblocks = 0xa1a2a3a4a5a6a7a8;
    sb->clean = 1;
}

static void test_format_superblock_is_little_endian(void **state)
{
    static const uint8_t want[208] = {
        's',  'h',  'm',  'f',  's',  '\r', '\n', 0x1a, 8,    7,    6,    5,    4,    3,    2,    1,
        4,    0,    0,    0,    0,    0x10, 0,    0,    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0x24, 0x23, 0x22, 0x21, 0x28, 0x27, 0x26, 0x25, 0x2c, 0x2b, 0x2a, 0x29, 0,    0,    0,    0,
        0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
        'l',  'a',  'b',  'e',  'l',  0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, 0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51,
        0x64, 0x63, 0x62, 0x61, 0x68, 0x67, 0x66, 0x65, 0x6c, 0x6b, 0x6a, 0x69, 0x70, 0x6f, 0x6e, 0x6d,
        0x74, 0x73, 0x72, 0x71, 0x78, 0x77, 0x76, 0x75, 0x82, 0x81, 0x80, 0x7f, 0x7e, 0x7d, 0x7c, 0x7b,
        0x98, 0x97, 0x96, 0x95, 0x94, 0x93, 0x92, 0x91, 0,    0,    0,    0,    0,    0,    0,    0,
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0xa8, 0xa7, 0xa6, 0xa5, 0xa4, 0xa3, 0xa2, 0xa1, 1,    0,    0,    0,    0,    0,    0,    0,
    };
    struct superblock sb;

    fill(&sb);
    assert_memory_equal(&sb, want, sizeof(want));
}

static void test_format_checksum_covers_what_mkfs_wrote_and_no_more(void **state)
{
    struct superblock sb;
    uint64_t sum;
    uint8_t *bytes = (uint8_t *)&sb;

    fill(&sb);
    sum = layout_checksum(&sb);
    assert_int_equal(sum, UINT64_C(0xb2036acd76b70927)); /* XXH3 of the bytes above */
    for (size_t i = 0; i < sizeof(sb); i++) {
        bytes[i] ^= 0x80;
        if (i < offsetof(struct superblock, checksum))
            assert_int_not_equal(layout_checksum(&sb), sum);
        else
            assert_int_equal(layout_checksum(&sb), sum);
        bytes[i] ^= 0x80;
    }
}

static void test_format_layout_hash_is_what_it_was(void **state)
{
    assert_int_equal(layout_hash(), UINT64_C(0x5aebe0aedfbfe723));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_version_is_4),
        cmocka_unit_test(test_format_every_struct_and_field_is_where_it_was),
        cmocka_unit_test(test_format_every_byte_belongs_to_a_pinned_field),
        cmocka_unit_test(test_format_constants_are_what_they_were),
        cmocka_unit_test(test_format_superblock_is_little_endian),
        cmocka_unit_test(test_format_checksum_covers_what_mkfs_wrote_and_no_more),
        cmocka_unit_test(test_format_layout_hash_is_what_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
