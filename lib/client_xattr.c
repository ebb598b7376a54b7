/* SPDX-License-Identifier: MIT */
#include <linux/capability.h>
#include <sys/xattr.h>

#include "client.h"

/* Extended attributes, by path: as xattr(7) has the rights of each namespace. */

enum { NAMES_BYTES_MAX = XATTR_BLOCKS_MAX * BLOCK_SIZE }; /* no list of names is longer */

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

/* What is wrong with a name whatever it is asked of. */
static int name_check(const char *name)
{
    size_t n = strnlen(name, NAME_MAX_BYTES + 1);

    return n == 0 || n > NAME_MAX_BYTES ? -ERANGE : 0;
}

/* May this caller read (WANT_READ) or change (WANT_WRITE) an attribute of that name? */
static int permitted(struct shmfs *fs, uint32_t ino, const struct inode *head, const char *name,
                     uint32_t want)
{
    const struct cred *cred = client_cred(fs);

    if (begins(name, "trusted."))
        return cred_capable(cred, CAP_SYS_ADMIN) ? 0 : want == WANT_WRITE ? -EPERM : -ENODATA;
    if (begins(name, "system."))
        return want == WANT_WRITE ? cred_owns(cred, head) : 0;
    if (begins(name, "security."))
        return want == WANT_READ || cred_capable(cred, CAP_SYS_ADMIN) ||
                       (strcmp(name, XATTR_CAPABILITY) == 0 && cred_capable(cred, CAP_SETFCAP))
                   ? 0
                   : -EPERM;
    if (!begins(name, "user."))
        return cred_permits(fs, cred, ino, head, want); /* no such namespace, as will be said then */
    if (!S_ISREG(head->mode) && !S_ISDIR(head->mode))   /* no user attributes on links and devices */
        return want == WANT_WRITE ? -EPERM : -ENODATA;
    if (want == WANT_WRITE && S_ISDIR(head->mode) && (head->mode & S_ISVTX) != 0) {
        int r = cred_owns(cred, head);
        if (r < 0)
            return r;
    }
    return cred_permits(fs, cred, ino, head, want);
}

/* File capabilities in one of the two forms that the kernel takes today. */
static bool is_capability(const void *value, size_t n)
{
    uint32_t magic;

    if (n < sizeof(magic))
        return false;
    memcpy(&magic, value, sizeof(magic));
    magic &= VFS_CAP_REVISION_MASK;
    return (n == XATTR_CAPS_SZ_2 && magic == VFS_CAP_REVISION_2) ||
           (n == XATTR_CAPS_SZ_3 && magic == VFS_CAP_REVISION_3);
}

static int change(struct shmfs *fs, const char *path, bool follow, const char *name, const void *value,
                  size_t n, int flags)
{
    struct target t;
    int r;

    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0)
        return -EINVAL;
    r = name_check(name);
    if (r < 0)
        return r;
    r = client_target_open(fs, path, follow ? PATH_FOLLOW : 0u, &t);
    if (r < 0)
        return r;
    r = fs->readonly ? -EROFS : permitted(fs, t.ino, &t.head, name, WANT_WRITE);
    if (r == 0 && value == NULL)
        r = shmfs_node_removexattr(fs, t.ino, name);
    else if (r == 0) {
        AUTO_FREE void *copy = NULL; /* the caller's memory is not looked at under a lock (A9) */

        if (n > XATTR_VALUE_MAX)
            r = -E2BIG;
        else if ((copy = malloc(MAX(n, (size_t)1))) == NULL)
            r = -ENOMEM;
        else
            memcpy(copy, value, n);
        if (begins(name, "system.posix_acl_access") && !cred_in_group(client_cred(fs), t.head.gid) &&
            !cred_capable(client_cred(fs), CAP_FSETID))
            flags |= SHMFS_XATTR_KILL_SGID;
        if (r == 0 && strcmp(name, XATTR_CAPABILITY) == 0 && !is_capability(copy, n))
            r = -EINVAL;
        if (r == 0)
            r = shmfs_node_setxattr(fs, t.ino, name, copy, n, flags);
    }
    return (int)client_target_close(&t, r);
}

static ssize_t get(struct shmfs *fs, const char *path, bool follow, const char *name, void *ret, size_t n)
{
    struct target t;
    ssize_t r = name_check(name);

    if (r == 0)
        r = client_target_open(fs, path, follow ? PATH_FOLLOW : 0u, &t);
    if (r < 0)
        return r;
    n = MIN(n, (size_t)XATTR_VALUE_MAX);
    AUTO_FREE void *bounce = malloc(MAX(n, (size_t)1));
    r = bounce == NULL ? -ENOMEM : permitted(fs, t.ino, &t.head, name, WANT_READ);
    if (r == 0)
        r = shmfs_node_getxattr(fs, t.ino, name, bounce, n);
    if (r > 0 && n > 0)
        memcpy(ret, bounce, (size_t)r);
    return client_target_close(&t, r);
}

/* Takes the names of trusted attributes out of a list that somebody may not see them in. */
static size_t hide_trusted(char *list, size_t n)
{
    size_t to = 0;

    for (size_t at = 0, len; at < n; at += len) {
        len = strnlen(list + at, n - at) + 1;
        if (begins(list + at, "trusted."))
            continue;
        memmove(list + to, list + at, MIN(len, n - at));
        to += len;
    }
    return to;
}

static ssize_t list(struct shmfs *fs, const char *path, bool follow, char *ret, size_t n)
{
    struct target t;
    ssize_t r = client_target_open(fs, path, follow ? PATH_FOLLOW : 0u, &t);

    if (r < 0)
        return r;
    /* Who does not see them all needs no room for them all. */
    bool all = cred_capable(client_cred(fs), CAP_SYS_ADMIN);
    size_t room = all ? MIN(n, (size_t)NAMES_BYTES_MAX) : (size_t)NAMES_BYTES_MAX;
    AUTO_FREE char *bounce = malloc(MAX(room, (size_t)1));
    r = bounce == NULL ? -ENOMEM : shmfs_node_listxattr(fs, t.ino, bounce, room);
    if (r > 0 && !all)
        r = (ssize_t)hide_trusted(bounce, (size_t)r);
    if (r > (ssize_t)n && n > 0)
        r = -ERANGE;
    if (r > 0 && n > 0)
        memcpy(ret, bounce, (size_t)r);
    return client_target_close(&t, r);
}

int shmfs_setxattr(struct shmfs *fs, const char *path, const char *name, const void *value, size_t n,
                   int flags)
{
    return change(fs, path, true, name, value != NULL ? value : "", n, flags);
}
int shmfs_lsetxattr(struct shmfs *fs, const char *path, const char *name, const void *value, size_t n,
                    int flags)
{
    return change(fs, path, false, name, value != NULL ? value : "", n, flags);
}
int shmfs_removexattr(struct shmfs *fs, const char *path, const char *name)
{
    return change(fs, path, true, name, NULL, 0, 0);
}
int shmfs_lremovexattr(struct shmfs *fs, const char *path, const char *name)
{
    return change(fs, path, false, name, NULL, 0, 0);
}
ssize_t shmfs_getxattr(struct shmfs *fs, const char *path, const char *name, void *ret, size_t n)
{
    return get(fs, path, true, name, ret, n);
}
ssize_t shmfs_lgetxattr(struct shmfs *fs, const char *path, const char *name, void *ret, size_t n)
{
    return get(fs, path, false, name, ret, n);
}
ssize_t shmfs_listxattr(struct shmfs *fs, const char *path, char *ret, size_t n)
{
    return list(fs, path, true, ret, n);
}
ssize_t shmfs_llistxattr(struct shmfs *fs, const char *path, char *ret, size_t n)
{
    return list(fs, path, false, ret, n);
}
