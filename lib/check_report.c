/* SPDX-License-Identifier: MIT */
#include "check_impl.h"

#include <stdarg.h>
#include <stdio.h>

enum { PATH_TEXT = 1024, PROBLEM_TEXT = 2 * PATH_TEXT + 512 };

const char *check_name_text(const char *name, size_t len, char *buf, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        bool plain = c >= 0x20 && c != 0x7f && c != '\\';
        if (at + (plain ? 1 : 4) >= n)
            break;
        if (plain)
            buf[at++] = (char)c;
        else
            at += (size_t)snprintf(buf + at, n - at, "\\%03o", c);
    }
    buf[at] = '\0';
    return buf;
}

uint32_t check_parent(struct check *ck, uint32_t ino)
{
    uint32_t blk = ck->where[ino];

    if (blk == 0)
        return 0;
    const struct bucket *bucket = check_block(ck, blk);
    uint32_t owner = LOAD_RELAXED(&bucket->owner.n);
    return region_inode_ok(ck->fs, owner) ? owner : 0;
}

/* The name of the first entry for this inode, as text. False: it cannot be read. */
static bool find_name(struct check *ck, uint32_t ino, char *buf, size_t n)
{
    const struct bucket *bucket = check_block(ck, ck->where[ino]);
    unsigned count = MIN(LOAD_RELAXED(&bucket->count), ARRAY_SIZE(bucket->slots));

    for (unsigned i = 0; i < count; i++) {
        struct dslot slot = bucket->slots[i];
        size_t start = slot.off + sizeof(struct dname);
        if (slot.ino.n != ino || slot.len == 0 || start + slot.len > BLOCK_SIZE)
            continue;
        check_name_text((const char *)bucket + start, slot.len, buf, n);
        return true;
    }
    return false;
}

/* The path is built from its end; where it does not fit (or goes in circles) its start becomes "...". */
static const char *find_path(struct check *ck, uint32_t ino, char *buf, size_t n)
{
    size_t at = n - 1;
    uint32_t mark = ino; /* an inode passed before; meeting it again shows a circle (Brent) */

    buf[at] = '\0';
    if (ino == ROOT_INO)
        return "/";
    for (uint32_t steps = 1; ino != ROOT_INO; steps++) {
        char name[NAME_MAX_BYTES * 4 + 1];
        uint32_t parent = check_parent(ck, ino);
        if (parent == 0 || !find_name(ck, ino, name, sizeof(name)))
            return at == n - 1 ? NULL : memcpy(buf + at - 3, "...", 3);
        size_t len = strlen(name);
        if (at < len + 1 + 3)
            return memcpy(buf + at - 3, "...", 3);
        at -= len;
        memcpy(buf + at, name, len);
        buf[--at] = '/';
        ino = parent;
        if (ino == mark)
            return memcpy(buf + at - 3, "...", 3);
        if ((steps & (steps - 1)) == 0)
            mark = ino;
    }
    return buf + at;
}

const char *check_inode_text(struct check *ck, uint32_t ino, char *buf, size_t n)
{
    char room[PATH_TEXT];
    const char *path = find_path(ck, ino, room, sizeof(room));

    if (path != NULL)
        snprintf(buf, n, "inode %u (%s)", ino, path);
    else
        snprintf(buf, n, "inode %u", ino);
    return buf;
}

void check_problem(struct check *ck, uint32_t ino, const char *format, ...)
{
    char text[PROBLEM_TEXT];
    size_t at = 0;
    va_list args;

    if (ck->pass == CHECK_NAMES || ck->pass == CHECK_OWNERS)
        return;
    ck->result.problems++;
    if (ck->cb == NULL || ck->cb->problem == NULL)
        return;
    if (ino != 0) {
        check_inode_text(ck, ino, text, sizeof(text));
        at = strlen(text);
        at += (size_t)snprintf(text + at, sizeof(text) - at, ": ");
    }
    va_start(args, format);
    vsnprintf(text + at, sizeof(text) - at, format, args);
    va_end(args);
    struct shmfs_problem problem = { .ino = ino, .text = text };
    ck->cb->problem(ck->cb->arg, &problem);
}
