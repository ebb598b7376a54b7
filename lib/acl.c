/* SPDX-License-Identifier: MIT */
#include "acl.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

enum { ENTRIES_MAX = 1024 };

struct acl {
    struct posix_acl_xattr_entry *e;
    size_t n;
};

/* The entries of a value, whatever they say: -EOPNOTSUPP, of another version; -EINVAL. */
static int acl_split(void *value, size_t size, struct acl *ret)
{
    struct posix_acl_xattr_header head;

    if (size < sizeof(head))
        return -EINVAL;
    memcpy(&head, value, sizeof(head));
    if (head.a_version != POSIX_ACL_XATTR_VERSION)
        return -EOPNOTSUPP;
    ret->e = (void *)((uint8_t *)value + sizeof(head));
    ret->n = (size - sizeof(head)) / sizeof(struct posix_acl_xattr_entry);
    return (size - sizeof(head)) % sizeof(struct posix_acl_xattr_entry) == 0 && ret->n <= ENTRIES_MAX
               ? 0
               : -EINVAL;
}

/* Is it an ACL, in canonical order? */
static bool acl_is_valid(const struct acl *acl)
{
    bool obj[3] = { false }, mask = false, named = false;
    int last = 0;

    for (size_t i = 0; i < acl->n; i++) {
        int tag = acl->e[i].e_tag;

        if (tag < last || (acl->e[i].e_perm & ~7) != 0)
            return false;
        if (tag == last && tag != ACL_USER && tag != ACL_GROUP)
            return false;
        last = tag;
        switch (tag) {
        case ACL_USER_OBJ:
            obj[0] = true;
            break;
        case ACL_GROUP_OBJ:
            obj[1] = true;
            break;
        case ACL_OTHER:
            obj[2] = true;
            break;
        case ACL_MASK:
            mask = true;
            break;
        case ACL_USER:
        case ACL_GROUP:
            named = true;
            break;
        default:
            return false;
        }
    }
    return acl->n == 0 || (obj[0] && obj[1] && obj[2] && (mask || !named));
}

static int acl_parse(void *value, size_t size, struct acl *ret)
{
    return acl_split(value, size, ret) == 0 && acl_is_valid(ret) ? 0 : -EINVAL;
}

static struct posix_acl_xattr_entry *acl_entry(const struct acl *acl, int tag)
{
    for (size_t i = 0; i < acl->n; i++) {
        if (acl->e[i].e_tag == tag)
            return &acl->e[i];
    }
    return NULL;
}

/* What the group bits of the mode stand for. */
static struct posix_acl_xattr_entry *acl_group_class(const struct acl *acl)
{
    struct posix_acl_xattr_entry *mask = acl_entry(acl, ACL_MASK);

    return mask != NULL ? mask : acl_entry(acl, ACL_GROUP_OBJ);
}

static uint32_t acl_mode(const struct acl *acl)
{
    return (uint32_t)(acl_entry(acl, ACL_USER_OBJ)->e_perm << 6 | acl_group_class(acl)->e_perm << 3 |
                      acl_entry(acl, ACL_OTHER)->e_perm);
}

bool acl_is_name(const char *name)
{
    return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0;
}

int acl_change(struct txn *t, uint32_t ino, struct inode *in, const char *name, const void *value, size_t n,
               int flags)
{
    bool access = strcmp(name, ACL_ACCESS) == 0;
    AUTO_FREE void *copy = malloc(MAX(n, (size_t)1));
    struct acl acl = { 0 };
    int r;

    if (copy == NULL)
        return -ENOMEM;
    if (S_ISLNK(in->mode))
        return -EOPNOTSUPP;
    if (value != NULL) {
        memcpy(copy, value, n);
        r = acl_split(copy, n, &acl);
        if (r < 0)
            return r;
        if (!access && acl.n > 0 && !S_ISDIR(in->mode))
            return -EACCES;
        if (!acl_is_valid(&acl))
            return -EINVAL;
        if (access && acl.n > 0)
            in->mode = (in->mode & ~0777u) | acl_mode(&acl);
        if (acl.n == 0 || (access && acl.n == 3))
            value = NULL; /* says no more than the mode does */
    }
    r = xattr_change(t, ino, in, name, value, n, flags);
    return r == -ENODATA && value == NULL ? 0 : r;
}

/* Loads an ACL attribute of a locked inode; *ret_n 0 and NULL where there is none. */
static int acl_load(struct txn *t, uint32_t ino, const char *name, void **ret_value, size_t *ret_n,
                    struct acl *ret)
{
    AUTO_FREE void *buf = NULL;
    ssize_t n;
    int r;

    *ret_value = NULL;
    *ret_n = 0;
    if (inode_at(t->fs, ino)->xattr.n == 0)
        return 0;
    n = xattr_get(t->fs, t, ino, name, NULL, 0);
    if (n <= 0)
        return n == -ENODATA || n == 0 ? 0 : (int)n;
    buf = malloc((size_t)n);
    if (buf == NULL)
        return -ENOMEM;
    n = xattr_get(t->fs, t, ino, name, buf, (size_t)n);
    if (n < 0)
        return (int)n;
    r = acl_parse(buf, (size_t)n, ret);
    if (r < 0 || ret->n == 0)
        return r < 0 ? -EUCLEAN : 0;
    *ret_value = buf;
    *ret_n = (size_t)n;
    buf = NULL;
    return 0;
}

int acl_chmod(struct txn *t, uint32_t ino, struct inode *in)
{
    struct acl acl;
    void *value;
    size_t n;
    int r = acl_load(t, ino, ACL_ACCESS, &value, &n, &acl);

    if (r < 0 || value == NULL)
        return r;
    acl_entry(&acl, ACL_USER_OBJ)->e_perm = in->mode >> 6 & 7;
    acl_group_class(&acl)->e_perm = in->mode >> 3 & 7;
    acl_entry(&acl, ACL_OTHER)->e_perm = in->mode & 7;
    r = xattr_change(t, ino, in, ACL_ACCESS, value, n, 0);
    free(value);
    return r;
}

int acl_inherit(struct txn *t, uint32_t dino, uint32_t ino, struct inode *in, mode_t umask)
{
    AUTO_FREE void *value = NULL;
    struct acl acl;
    size_t n;
    int r = acl_load(t, dino, ACL_DEFAULT, &value, &n, &acl);

    if (r < 0)
        return r;
    if (S_ISLNK(in->mode))
        return 0;
    if (value == NULL) {
        in->mode &= ~(umask & 0777);
        return 0;
    }
    if (S_ISDIR(in->mode)) {
        r = xattr_change(t, ino, in, ACL_DEFAULT, value, n, 0);
        if (r < 0)
            return r;
    }
    /* The mode asked for and the default ACL limit each other. */
    acl_entry(&acl, ACL_USER_OBJ)->e_perm &= in->mode >> 6 & 7;
    acl_group_class(&acl)->e_perm &= in->mode >> 3 & 7;
    acl_entry(&acl, ACL_OTHER)->e_perm &= in->mode & 7;
    in->mode = (in->mode & ~0777u) | acl_mode(&acl);
    return acl.n > 3 ? xattr_change(t, ino, in, ACL_ACCESS, value, n, 0) : 0;
}

/* ---- permission -------------------------------------------------------------------------------- */

/* The value, read without a lock; -ENODATA where there is none. */
static int acl_fetch(struct shmfs *fs, uint32_t ino, void **ret_value, struct acl *ret)
{
    for (int tries = 0; tries < 100; tries++) { /* it may grow between the two looks */
        ssize_t n = xattr_get(fs, NULL, ino, ACL_ACCESS, NULL, 0);
        if (n <= 0)
            return n < 0 ? (int)n : -ENODATA;
        void *value = malloc((size_t)n);
        if (value == NULL)
            return -ENOMEM;
        ssize_t got = xattr_get(fs, NULL, ino, ACL_ACCESS, value, (size_t)n);
        ret->n = 0;
        int r = got < 0 ? (int)got : acl_parse(value, (size_t)got, ret);
        if (r == 0 && ret->n > 0) {
            *ret_value = value;
            return 0;
        }
        free(value);
        if (got != -ERANGE)
            return r == 0 ? -ENODATA : r == -EINVAL ? -EUCLEAN : r;
    }
    return -EAGAIN;
}

/* The entry that decides, as acl(5) has it; NULL: a group entry matched, but none that gives all. */
static const struct posix_acl_xattr_entry *acl_deciding(const struct acl *acl, const struct inode *head,
                                                        uid_t uid, bool (*in_group)(void *arg, gid_t gid),
                                                        void *arg, uint32_t want)
{
    bool member = false;

    if (uid == head->uid)
        return acl_entry(acl, ACL_USER_OBJ);
    for (size_t i = 0; i < acl->n; i++) {
        if (acl->e[i].e_tag == ACL_USER && acl->e[i].e_id == uid)
            return &acl->e[i];
    }
    for (size_t i = 0; i < acl->n; i++) {
        const struct posix_acl_xattr_entry *e = &acl->e[i];

        if ((e->e_tag == ACL_GROUP_OBJ && in_group(arg, head->gid)) ||
            (e->e_tag == ACL_GROUP && in_group(arg, e->e_id))) {
            member = true;
            if ((e->e_perm & want) == want)
                return e;
        }
    }
    return member ? NULL : acl_entry(acl, ACL_OTHER);
}

int acl_permits(struct shmfs *fs, uint32_t ino, const struct inode *head, uid_t uid,
                bool (*in_group)(void *arg, gid_t gid), void *arg, uint32_t want)
{
    AUTO_FREE void *value = NULL;
    struct acl acl = { 0 };
    uint32_t perm;
    int r = acl_fetch(fs, ino, &value, &acl);

    if (r < 0)
        return r;
    const struct posix_acl_xattr_entry *e = acl_deciding(&acl, head, uid, in_group, arg, want);
    if (e == NULL)
        return -EACCES;
    perm = e->e_perm;
    const struct posix_acl_xattr_entry *mask = acl_entry(&acl, ACL_MASK);
    if (mask != NULL && (e->e_tag == ACL_USER || e->e_tag == ACL_GROUP || e->e_tag == ACL_GROUP_OBJ))
        perm &= mask->e_perm;
    return (perm & want) == want ? 0 : -EACCES;
}
