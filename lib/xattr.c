/* SPDX-License-Identifier: MIT */
#include "xattr.h"

#include <sys/xattr.h>

enum { DATA_MAX = BLOCK_SIZE - (int)offsetof(struct xattr_block, data) };

struct list {
    uint8_t *data;
    size_t len, room;
};

/* One parsed attribute within a list. */
struct item {
    size_t at, size; /* of the whole */
    const char *name;
    const uint8_t *value;
    struct xattr_entry head;
};

static void list_free(struct list *l)
{
    free(l->data);
}
#define AUTO_LIST __attribute__((cleanup(list_free)))

/* Copies the chain, as far as `room` goes. 1: more room is needed. */
static int chain_copy(const struct shmfs *fs, uint32_t ino, const struct inode *in, struct list *l)
{
    struct blkref blk = in->xattr;
    uint32_t n = in->xattr_blocks;

    l->len = 0;
    if (n > XATTR_BLOCKS_MAX || (n == 0) != (blk.n == 0))
        return -EUCLEAN;
    if (l->room < (size_t)n * DATA_MAX) {
        l->room = (size_t)n * DATA_MAX;
        return 1;
    }
    for (; n > 0; n--) {
        const struct xattr_block *xb = region_block(fs, blk);
        uint32_t len;

        if (xb == NULL || xb->magic != XATTR_MAGIC || xb->owner.n != ino)
            return -EUCLEAN;
        len = LOAD_RELAXED(&xb->len);
        blk.n = LOAD_RELAXED(&xb->next.n);
        if (len > DATA_MAX || (blk.n == 0) != (n == 1))
            return -EUCLEAN;
        memcpy(l->data + l->len, xb->data, len);
        l->len += len;
    }
    return 0;
}

static int list_room(struct list *l)
{
    uint8_t *p = realloc(l->data, MAX(l->room, (size_t)1));

    if (p == NULL)
        return -ENOMEM;
    l->data = p;
    return 0;
}

static int list_load_locked(const struct shmfs *fs, uint32_t ino, struct list *l)
{
    int r;

    while ((r = chain_copy(fs, ino, inode_at(fs, ino), l)) == 1) {
        r = list_room(l);
        if (r < 0)
            return r;
    }
    return r;
}

static int list_load(struct shmfs *fs, uint32_t ino, struct list *l)
{
    int r;

    do {
        struct reading rd;

        if (l->room > 0 && (r = list_room(l)) < 0)
            return r;
        reading_init(&rd, fs, ino);
        do {
            r = reading_begin(&rd);
            if (r < 0)
                return r;
            r = inode_is_valid(inode_at(fs, ino));
            if (r == 0)
                r = chain_copy(fs, ino, inode_at(fs, ino), l);
            if (r == 1)
                break; /* memory is had without the lock */
        } while (reading_again(&rd));
        if (r == 1)
            reading_again(&rd);
    } while (r == 1);
    return r;
}

/* The item at `at`; 0, -ENODATA at the end, -EUCLEAN. */
static int item_at(const struct list *l, size_t at, struct item *ret)
{
    if (at == l->len)
        return -ENODATA;
    if (l->len - at < sizeof(ret->head))
        return -EUCLEAN;
    ret->at = at;
    memcpy(&ret->head, l->data + at, sizeof(ret->head));
    ret->size = sizeof(ret->head) + ret->head.name_len + (size_t)ret->head.value_len;
    if (ret->head.name_len == 0 || ret->head.value_len > XATTR_VALUE_MAX || ret->size > l->len - at)
        return -EUCLEAN;
    ret->name = (const char *)l->data + at + sizeof(ret->head);
    ret->value = l->data + at + sizeof(ret->head) + ret->head.name_len;
    return 0;
}

static int item_find(const struct list *l, const char *name, struct item *ret)
{
    size_t len = strlen(name);
    int r;

    for (size_t at = 0; (r = item_at(l, at, ret)) == 0; at += ret->size) {
        if (ret->head.name_len == len && memcmp(ret->name, name, len) == 0)
            return 0;
    }
    return r;
}

int xattr_name_check(const char *name)
{
    static const char *const spaces[] = { "user.", "trusted.", "security." };

    for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
        size_t n = strlen(spaces[i]);
        if (strncmp(name, spaces[i], n) == 0)
            return name[n] == 0 ? -EINVAL : 0;
    }
    return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0
               ? 0
               : -EOPNOTSUPP;
}

ssize_t xattr_get(struct shmfs *fs, struct txn *t, uint32_t ino, const char *name, void *buf, size_t n)
{
    AUTO_LIST struct list l = { 0 };
    struct item item;
    int r;

    r = t != NULL ? list_load_locked(fs, ino, &l) : list_load(fs, ino, &l);
    if (r == 0)
        r = item_find(&l, name, &item);
    if (r < 0)
        return r;
    if (n > 0 && item.head.value_len > n)
        return -ERANGE;
    if (n > 0)
        memcpy(buf, item.value, item.head.value_len);
    return item.head.value_len;
}

ssize_t xattr_list(struct shmfs *fs, uint32_t ino, char *buf, size_t n)
{
    AUTO_LIST struct list l = { 0 };
    struct item item;
    size_t used = 0;
    int r;

    r = list_load(fs, ino, &l);
    if (r < 0)
        return r;
    for (size_t at = 0; (r = item_at(&l, at, &item)) == 0; at += item.size) {
        size_t len = item.head.name_len + 1u;

        if (n > 0) {
            if (used + len > n)
                return -ERANGE;
            memcpy(buf + used, item.name, len - 1);
            buf[used + len - 1] = 0;
        }
        used += len;
    }
    return r == -ENODATA ? (ssize_t)used : r;
}

/* Writes the list to a new chain. All blocks but the last are full. */
static int chain_write(struct txn *t, uint32_t ino, const struct list *l, struct blkref *ret_first,
                       uint32_t *ret_blocks)
{
    uint32_t n = (uint32_t)div_up(l->len, DATA_MAX);
    struct blkref next = { 0 };

    if (n > XATTR_BLOCKS_MAX)
        return -ENOSPC;
    for (uint32_t i = n; i-- > 0;) { /* from the last, so that each knows its next */
        size_t from = (size_t)i * DATA_MAX;
        struct blkref blk;
        int r = alloc_block(t, next, &blk);

        if (r < 0)
            return r;
        struct xattr_block *xb = region_known_block(t->fs, blk);
        *xb = (struct xattr_block){ .magic = XATTR_MAGIC,
                                    .owner = { ino },
                                    .next = next,
                                    .len = (uint32_t)MIN(l->len - from, (size_t)DATA_MAX) };
        memcpy(xb->data, l->data + from, xb->len);
        next = blk;
    }
    *ret_first = next;
    *ret_blocks = n;
    return 0;
}

static bool chain_has_room(const struct inode *in, const struct list *l)
{
    uint32_t n = (uint32_t)div_up(l->len, DATA_MAX);

    return n > 0 && n <= in->xattr_blocks && n <= XATTR_REWRITE_MAX;
}

/* Puts the list into the chain that is there: so removing needs no memory. */
static int chain_rewrite(struct txn *t, uint32_t ino, struct inode *in, const struct list *l)
{
    uint32_t n = (uint32_t)div_up(l->len, DATA_MAX);
    struct blkref blk = in->xattr, rest = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        struct xattr_block *xb = region_block(t->fs, blk);
        size_t from = (size_t)i * DATA_MAX;

        if (xb == NULL || xb->magic != XATTR_MAGIC || xb->owner.n != ino)
            return -EUCLEAN;
        txn_save(t, xb, sizeof(*xb));
        xb->len = (uint32_t)MIN(l->len - from, (size_t)DATA_MAX);
        memcpy(xb->data, l->data + from, xb->len);
        blk = xb->next;
        if (i == n - 1) {
            rest = xb->next;
            xb->next.n = 0;
        }
    }
    in->blocks = in->blocks - in->xattr_blocks + n;
    in->xattr_blocks = n;
    if (rest.n != 0)
        txn_todo(t, TODO_CHAIN, ino, rest.n, 0);
    return 0;
}

/* A file with capabilities is marked, so that a write need not look for them. */
static void note_capability(struct inode *in, const char *name, bool set)
{
    if (strcmp(name, XATTR_CAPABILITY) == 0)
        in->flags = set ? in->flags | INODE_CAPABLE : in->flags & ~(uint32_t)INODE_CAPABLE;
}

static int list_edit(struct list *l, const char *name, const void *value, size_t n, int flags)
{
    struct xattr_entry head = { .value_len = (uint32_t)n, .name_len = (uint8_t)strlen(name) };
    struct item item;
    int r = item_find(l, name, &item);

    if (r == 0 && value != NULL && (flags & XATTR_CREATE) != 0)
        return -EEXIST;
    if (r == -ENODATA && (value == NULL || (flags & XATTR_REPLACE) != 0))
        return -ENODATA;
    if (r < 0 && r != -ENODATA)
        return r;
    if (r == 0) {
        memmove(l->data + item.at, l->data + item.at + item.size, l->len - item.at - item.size);
        l->len -= item.size;
    }
    if (value == NULL)
        return 0;
    l->room = l->len + sizeof(head) + head.name_len + n;
    r = list_room(l);
    if (r < 0)
        return r;
    memcpy(l->data + l->len, &head, sizeof(head));
    memcpy(l->data + l->len + sizeof(head), name, head.name_len);
    if (n > 0)
        memcpy(l->data + l->len + sizeof(head) + head.name_len, value, n);
    l->len = l->room;
    return 0;
}

int xattr_change(struct txn *t, uint32_t ino, struct inode *in, const char *name, const void *value, size_t n,
                 int flags)
{
    AUTO_LIST struct list l = { 0 };
    struct blkref first = { 0 }, old = in->xattr;
    uint32_t blocks = 0;
    int r;

    if (name[0] == 0 || strlen(name) > 255)
        return -ERANGE;
    if (n > XATTR_VALUE_MAX)
        return -E2BIG;
    r = list_load_locked(t->fs, ino, &l);
    if (r == 0)
        r = list_edit(&l, name, value, n, flags);
    if (r < 0)
        return r;
    note_capability(in, name, value != NULL);
    if (chain_has_room(in, &l))
        return chain_rewrite(t, ino, in, &l);
    r = chain_write(t, ino, &l, &first, &blocks);
    if (r < 0)
        return r;
    in->blocks = in->blocks - in->xattr_blocks + blocks;
    in->xattr = first;
    in->xattr_blocks = blocks;
    if (old.n != 0)
        txn_todo(t, TODO_CHAIN, ino, old.n, 0);
    return 0;
}
