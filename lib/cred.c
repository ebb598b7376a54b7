/* SPDX-License-Identifier: MIT */
#include "cred.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static uint64_t own_caps(void)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

    if (syscall(SYS_capget, &head, data) < 0)
        return 0;
    return data[0].effective | (uint64_t)data[1].effective << 32;
}

/* From /proc, since umask(2) cannot ask without setting. */
static mode_t own_umask(void)
{
    AUTO_CLOSE int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
    char buf[512];
    unsigned mask;

    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
    if (n <= 0)
        return 022;
    buf[n] = 0;
    const char *p = strstr(buf, "\nUmask:");
    return p != NULL && sscanf(p, "\nUmask: %o", &mask) == 1 ? (mode_t)mask : 022;
}

static bool links_are_protected(void)
{
    AUTO_CLOSE int fd = open("/proc/sys/fs/protected_hardlinks", O_RDONLY | O_CLOEXEC);
    char c;

    return fd >= 0 && read(fd, &c, 1) == 1 && c != '0';
}

static int compare_gids(const void *a, const void *b)
{
    gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

    return x < y ? -1 : x > y;
}

int cred_load(struct cred *ret)
{
    struct cred c = { .uid = geteuid(), .gid = getegid(), .caps = own_caps(), .umask = own_umask() };
    struct rlimit limit;

    c.protect_links = links_are_protected();
    c.fsize_limit = getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
                        ? (uint64_t)limit.rlim_cur
                        : (uint64_t)INT64_MAX;
    int n = getgroups(0, NULL);
    if (n > 0) {
        c.groups = malloc((size_t)n * sizeof(gid_t));
        if (c.groups == NULL)
            return -ENOMEM;
        n = getgroups(n, c.groups);
        c.ngroups = MAX(n, 0);
        qsort(c.groups, (size_t)c.ngroups, sizeof(gid_t), compare_gids);
    }
    *ret = c;
    return 0;
}

void cred_free(struct cred *cred)
{
    free(cred->groups);
    cred->groups = NULL;
}

bool cred_in_group(const struct cred *cred, gid_t gid)
{
    return gid == cred->gid || (cred->ngroups > 0 && bsearch(&gid, cred->groups, (size_t)cred->ngroups,
                                                             sizeof(gid_t), compare_gids) != NULL);
}

bool cred_outside(const struct cred *cred, gid_t gid)
{
    return !cred_in_group(cred, gid) && !cred_capable(cred, CAP_FSETID);
}

static bool in_group(void *arg, gid_t gid)
{
    return cred_in_group(arg, gid);
}

static int by_mode(struct shmfs *fs, const struct cred *cred, uint32_t ino, const struct inode *head,
                   uint32_t want)
{
    uint32_t mode = head->mode;

    if (cred->uid == head->uid) {
        mode >>= 6;
    } else {
        if (head->xattr.n != 0 && (mode & S_IRWXG) != 0) {
            int r = acl_permits(fs, ino, head, cred->uid, in_group, (void *)cred, want);
            if (r != -ENODATA)
                return r;
        }
        if (cred_in_group(cred, head->gid))
            mode >>= 3;
    }
    return (want & ~mode & 7) == 0 ? 0 : -EACCES;
}

int cred_permits_slowly(struct shmfs *fs, const struct cred *cred, uint32_t ino, const struct inode *head,
                        uint32_t want)
{
    int r = by_mode(fs, cred, ino, head, want);

    if (r != -EACCES)
        return r;
    if (S_ISDIR(head->mode))
        return ((want & WANT_WRITE) == 0 && cred_capable(cred, CAP_DAC_READ_SEARCH)) ||
                       cred_capable(cred, CAP_DAC_OVERRIDE)
                   ? 0
                   : -EACCES;
    if (want == WANT_READ && cred_capable(cred, CAP_DAC_READ_SEARCH))
        return 0;
    return ((want & WANT_EXEC) == 0 || (head->mode & 0111) != 0) && cred_capable(cred, CAP_DAC_OVERRIDE)
               ? 0
               : -EACCES;
}
