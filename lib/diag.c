/* SPDX-License-Identifier: MIT */
/* What went wrong, in one line that names the object, the reason and the way out. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base.h"
#include "error.h"
#include "node.h"

struct line {
    char *buf;
    size_t n;
};

/* Always NUL-terminated; what does not fit is cut off. */
__attribute__((format(printf, 2, 3))) static void say(struct line *line, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(line->buf, line->n, format, ap);
    va_end(ap);
}

/* Exact, and in a form that shmfs_size_parse() takes: a bound that is rounded would be wrong. */
static const char *exact_size(uint64_t bytes, char *buf, size_t n)
{
    if (bytes % (1 << 20) == 0)
        snprintf(buf, n, "%" PRIu64 "M", bytes >> 20);
    else if (bytes % 1024 == 0)
        snprintf(buf, n, "%" PRIu64 "K", bytes >> 10);
    else
        snprintf(buf, n, "%" PRIu64, bytes);
    return buf;
}

static void say_size(struct line *line, const struct shmfs_diag *d, const char *path)
{
    char asked[32], bound[32];

    exact_size(d->a, asked, sizeof(asked));
    exact_size(d->b, bound, sizeof(bound));
    if (d->reason == SHMFS_REASON_TOO_SMALL)
        say(line, "%s: a size of %s is too small; the smallest that works is %s", path, asked, bound);
    else
        say(line, "%s: a size of %s is too large; the largest that works is %s", path, asked, bound);
}

static void say_user(struct line *line, const struct shmfs_diag *d, const char *path)
{
    bool mounted = d->reason == SHMFS_REASON_MOUNTED;
    const char *state = mounted ? "mounted" : "in use";
    const char *way_out = mounted ? "unmount it first ('umount' or 'fusermount3 -u' its mount point)"
                                  : "end that process, or unmount it, first";

    if (d->a != 0)
        say(line, "%s: is %s by process %" PRIu64 "; %s", path, state, d->a, way_out);
    else
        say(line, "%s: is %s by another process; %s", path, state, way_out);
}

static void say_feature(struct line *line, const struct shmfs_diag *d, const char *path)
{
    if (d->a != 0)
        say(line,
            "%s: uses features that this shmfs does not know (0x%" PRIx64
            "); use the newer shmfs that made it",
            path, d->a);
    else
        say(line,
            "%s: uses features that this shmfs may only read (0x%" PRIx64 "); "
            "mount it with '-o ro', or use the newer shmfs that made it",
            path, d->b);
}

#define RESTORE \
    "restore the file from a copy, or make it anew with 'mkfs.shmfs --force', which loses its files"

#define SALVAGE "restore it from a copy, or see what is left with 'shmfsctl restore --salvage'"

/* What can be said without numbers; NULL for the other reasons. */
static const char *plain_reason(enum shmfs_reason reason)
{
    switch (reason) {
    case SHMFS_REASON_NOT_REGION:
        return "is not a shmfs region; check the path, or make a region at another one with mkfs.shmfs";
    case SHMFS_REASON_BYTE_ORDER:
        return "was made on a machine of the other byte order; use it there";
    case SHMFS_REASON_LAYOUT:
        return "was made by another build of shmfs with another layout; use that build";
    case SHMFS_REASON_CHECKSUM:
        return "its superblock is damaged (wrong checksum); " RESTORE;
    case SHMFS_REASON_GEOMETRY:
        return "the sizes in its superblock contradict each other; " RESTORE;
    case SHMFS_REASON_UNCLEAN:
        return "was not closed before the machine went down, or is a copy of a region in use; "
               "see what is left of it with 'fsck.shmfs -n'";
    case SHMFS_REASON_EXISTS:
        return "is there already; '--force' replaces it, and what it holds is lost";
    case SHMFS_REASON_NOT_IMAGE:
        return "is not an image that shmfs made; check the path";
    case SHMFS_REASON_IMAGE_HEADER:
        return "its header is damaged; " SALVAGE;
    case SHMFS_REASON_IMAGE_GEOMETRY:
        return "the sizes that it states contradict each other; restore it from a copy";
    case SHMFS_REASON_IMAGE_TABLE:
        return "its table of checksums is damaged; " SALVAGE;
    case SHMFS_REASON_IMAGE_OTHER:
        return "holds another filesystem; choose another path, or remove it first";
    case SHMFS_REASON_IMAGE_BUSY:
        return "another process writes it at this moment; unmount what keeps it, or try again";
    case SHMFS_REASON_SNAPSHOT_BUSY:
        return "another snapshot of this filesystem has gone on for a minute; try again when it has ended";
    case SHMFS_REASON_SNAPSHOT_STOPPED:
        return "the snapshot held others up for more than a second, so they went on without it; try again";
    case SHMFS_REASON_NOT_FILE:
        return "is not a regular file (links are not followed); name one, or a path where there is nothing "
               "yet";
    default:
        return NULL;
    }
}

static void say_reason(struct line *line, const struct shmfs_diag *d, const char *path)
{
    const char *plain = plain_reason(d->reason);

    switch (d->reason) {
    case SHMFS_REASON_VERSION:
        say(line,
            "%s: has format version %" PRIu64 ", but this shmfs knows version %" PRIu64
            "; use the shmfs that made it",
            path, d->a, d->b);
        break;
    case SHMFS_REASON_FEATURE:
        say_feature(line, d, path);
        break;
    case SHMFS_REASON_TRUNCATED:
        say(line, "%s: was cut short: it has %" PRIu64 " bytes of %" PRIu64 "; " RESTORE, path, d->a, d->b);
        break;
    case SHMFS_REASON_IN_USE:
    case SHMFS_REASON_MOUNTED:
        say_user(line, d, path);
        break;
    case SHMFS_REASON_ALONE:
        say(line,
            "%s: is mounted with cache=writeback by process %" PRIu64
            ", which alone may write it; attach read-only, or mount it with cache=coherent",
            path, d->a);
        break;
    case SHMFS_REASON_TOO_SMALL:
    case SHMFS_REASON_TOO_LARGE:
        say_size(line, d, path);
        break;
    case SHMFS_REASON_FULL:
        say(line, "%s: all of its %" PRIu64 " places for processes are taken; end one that uses it", path,
            d->a);
        break;
    case SHMFS_REASON_IMAGE_VERSION:
        say(line,
            "%s: has format version %" PRIu64 ", but this shmfs knows images up to version %" PRIu64
            "; use the shmfs that made it",
            path, d->a, d->b);
        break;
    case SHMFS_REASON_IMAGE_JOURNAL:
        say(line,
            "%s: its journal is damaged: it ends with commit %" PRIu64 ", and there was a commit %" PRIu64
            "; " SALVAGE,
            path, d->a, d->b);
        break;
    case SHMFS_REASON_IMAGE_PAGES:
        say(line, "%s: %" PRIu64 " of its pages are damaged; " SALVAGE, path, d->a);
        break;
    case SHMFS_REASON_SNAPSHOT_STUCK:
        say(line,
            "%s: process %" PRIu64
            " is stopped in the middle of a change, so that there is no point in time; "
            "let it go on ('kill -CONT'), or end it",
            path, d->a);
        break;
    default:
        if (plain)
            say(line, "%s: %s", path, plain);
        else
            say(line, "%s: cannot be used (reason %d)", path, (int)d->reason);
    }
}

/* Whether the directory that PATH lies in is missing: then that is what the user must be told. */
static bool directory_missing(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat st;
    char *dir;
    bool missing;

    if (!slash || slash == path)
        return false;
    dir = strndup(path, (size_t)(slash - path));
    missing = dir && stat(dir, &st) < 0 && errno == ENOENT;
    free(dir);
    return missing;
}

/* What to do about an errno; NULL where we have no advice to give. */
static const char *advice(int err, const char *path)
{
    switch (-err) {
    case ENOENT:
        return directory_missing(path) ? "make its directory first"
                                       : "check the path, or make a region there with mkfs.shmfs";
    case EACCES:
        return "use it as its owner or as root";
    case EPERM:
        return "it must belong to you, and nobody else may have the right to write it ('chmod go-w')";
    case EEXIST:
        return "choose another path; '--force' replaces it";
    case EBUSY:
        return "end the processes that use it first";
    case ENOSPC:
    case EDQUOT:
        return "make room in the filesystem that it lies in, or choose a smaller size";
    case ENOMEM:
        return "free some memory, or choose a smaller size";
    case EAGAIN:
        return "too many processes use it at once; try again";
    case EROFS:
        return "it lies on a filesystem that is mounted read-only";
    case ELOOP:
        return "it is a symbolic link; name the file that it points to";
    case EISDIR:
        return "name a regular file";
    case ENOTDIR:
        return "a part of its path is not a directory";
    case ENAMETOOLONG:
        return "choose a shorter path";
    case EMFILE:
    case ENFILE:
        return "raise the limit ('ulimit -n') or close some files";
    case EINVAL:
        return "the sizes asked for do not go together";
    case EFBIG:
        return "raise the limit of file sizes ('ulimit -f') or choose a smaller size";
    case EIO:
        return "the file was cut short while it was in use, or its device fails; restore it from a copy";
    case EUCLEAN:
        return "it is damaged; 'fsck.shmfs -n' shows where";
    case ENODEV:
    case EOPNOTSUPP:
        return "its filesystem cannot share memory so; put it on a tmpfs such as /dev/shm";
    default:
        return NULL;
    }
}

const char *shmfs_diag_text(const struct shmfs_diag *diag, int err, const char *path, char *buf, size_t n)
{
    struct line line = { .buf = buf, .n = n };
    const char *what;

    if (n == 0)
        return buf;
    buf[0] = '\0';
    if (diag && diag->reason != SHMFS_REASON_NONE) {
        say_reason(&line, diag, path);
    } else {
        what = advice(err, path);
        if (what)
            say(&line, "%s: %s; %s", path, strerror(-err), what);
        else
            say(&line, "%s: %s", path, strerror(-err));
    }
    for (char *p = buf; *p; p++) /* a path may hold anything; the message stays one line */
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    return buf;
}
