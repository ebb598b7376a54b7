/* SPDX-License-Identifier: MIT */
/*
 * Prints a file, and then what is appended to it, as it comes: tail -F, without asking again and again.
 *
 *   cc -o follow follow.c $(pkg-config --cflags --libs shmfs)
 *   mkfs.shmfs --size 64M /dev/shm/region
 *   ./follow /dev/shm/region /log
 *
 * It waits for the file if there is none yet. If the file shrinks, it is printed from its start again; if
 * it grows past what was printed before anybody looks, nobody can tell. If another file takes its name (log
 * rotation), the rest of the old one is printed, then the new one from its start.
 *
 * The pattern of shmfs_wait(): wait, then look at everything. The version that it stores is older than what
 * is seen by looking afterwards, so no change falls between; and one change too many costs a look.
 *
 * A file has one version for all that can happen to it. Whoever takes its name away, by rename or by
 * removal, changes it too, so waiting for the file is enough. While there is no file, its directory is
 * waited for. Ctrl-C may come at any time: who dies is tidied up after.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmfs.h>

struct follow {
    struct shmfs *fs;
    const char *path;
    struct shmfs_file *file; /* NULL: there is none of this name */
    ino_t ino;
    off_t printed; /* bytes of it */
};

static _Noreturn void die(const char *what, int err)
{
    fprintf(stderr, "follow: %s: %s\n", what, strerror(-err));
    exit(1);
}

static void note(const struct follow *f, const char *text)
{
    fprintf(stderr, "follow: %s: %s\n", f->path, text);
}

static void print_all(const char *buf, size_t n)
{
    while (n > 0) {
        ssize_t r = write(STDOUT_FILENO, buf, n);

        if (r < 0)
            die("standard output", -errno);
        buf += r;
        n -= (size_t)r;
    }
}

/* Prints what the open file has beyond what was printed. */
static void print_rest(struct follow *f)
{
    char buf[65536];
    struct stat st;
    ssize_t r = shmfs_fstat(f->file, &st);

    if (r == 0 && st.st_size < f->printed) {
        note(f, "is truncated; from its start");
        f->printed = 0;
    }
    while (r >= 0 && (r = shmfs_pread(f->file, buf, sizeof(buf), f->printed)) > 0) {
        print_all(buf, (size_t)r);
        f->printed += r;
    }
    if (r < 0)
        die(f->path, (int)r);
}

/* Opens the file that has the name now. -ENOENT: none. */
static int open_by_name(struct follow *f)
{
    struct shmfs_file *file;
    struct stat st;
    int r = shmfs_open(f->fs, f->path, O_RDONLY, 0, &file);

    if (r < 0)
        return r;
    r = shmfs_fstat(file, &st);
    if (r < 0)
        die(f->path, r);
    f->file = file;
    f->ino = st.st_ino;
    f->printed = 0;
    return 0;
}

/* Opens the directory that the name is in. */
static struct shmfs_file *open_directory(struct follow *f)
{
    const char *slash = strrchr(f->path, '/');
    int n = slash != NULL ? (int)(slash - f->path) : 0;
    struct shmfs_file *dir;
    char name[4096];

    if (snprintf(name, sizeof(name), "/%.*s", n, f->path) >= (int)sizeof(name))
        die(f->path, -ENAMETOOLONG);
    int r = shmfs_open(f->fs, name, O_RDONLY | O_DIRECTORY, 0, &dir);
    if (r < 0)
        die(f->path, r);
    return dir;
}

/* Until there is a file of this name. */
static void await_file(struct follow *f)
{
    struct shmfs_file *dir = open_directory(f);
    uint64_t version = 0; /* that no directory has: the first wait returns at once */
    struct stat st;
    int r;

    for (int looks = 0;; looks++) {
        r = shmfs_wait(dir, &version, -1);
        if (r == 0)
            r = shmfs_fstat(dir, &st);
        if (r < 0 || st.st_nlink == 0) /* nothing will ever come in a directory that is removed */
            die(f->path, r < 0 ? r : -ENOENT);
        r = open_by_name(f);
        if (r != -ENOENT)
            break;
        if (looks == 0)
            note(f, "is not there; waiting for it");
    }
    if (r < 0)
        die(f->path, r);
    shmfs_close(dir);
}

/* Follows the file until the name is no longer its own. */
static void follow_file(struct follow *f)
{
    uint64_t version = 0;
    struct stat st;

    for (;;) {
        int r = shmfs_wait(f->file, &version, -1);
        if (r < 0)
            die(f->path, r);
        print_rest(f);
        /* A file that is open keeps its inode number to itself. */
        r = shmfs_stat(f->fs, f->path, &st);
        if (r == -ENOENT || (r == 0 && st.st_ino != f->ino))
            return;
        if (r < 0)
            die(f->path, r);
    }
}

int main(int argc, char **argv)
{
    struct follow f = { 0 };

    if (argc != 3) {
        fprintf(stderr, "Usage: follow REGION /PATH\n");
        return 2;
    }
    if (shmfs_attach(argv[1], 0, &f.fs) < 0) {
        fprintf(stderr, "follow: %s\n", shmfs_attach_error());
        return 1;
    }
    f.path = argv[2];
    await_file(&f);
    for (;;) {
        follow_file(&f);

        /* Who has the old file open may go on writing to it until the new one is there. */
        struct follow old = f;
        await_file(&f);
        print_rest(&old);
        shmfs_close(old.file);
        if (f.ino == old.ino) /* it was away and is back */
            f.printed = old.printed;
        else
            note(&f, "is another file now");
    }
}
