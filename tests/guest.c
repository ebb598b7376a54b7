/* SPDX-License-Identifier: MIT */
/*
 * A program that uses a region directly: does one thing after the other, says "ready", and stays until its
 * standard input ends.
 *
 *   guest WHERE ACTION...
 *     mkdir PATH | symlink TARGET PATH | write PATH TEXT      makes it
 *     fill PATH MIB TAG                                       with lines that are all different
 *     open PATH                                               and keeps it open
 *     map PATH                                                its first block, from here on
 *     flock-sh PATH | flock-ex PATH                           locks it, from here on
 *     posix-r PATH START LEN | posix-w ... | ofd-r ... | ofd-w ...
 *     loop PATH                                               writes to it all the time, after "ready"
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shmfs.h"

static struct shmfs *fs;
static char **next; /* the word after those that were read */

static long long must(long long r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "guest: %s: %s\n", what, strerror((int)-r));
        exit(1);
    }
    return r;
}

static char *word(void)
{
    if (!*next) {
        fputs("guest: a word is missing\n", stderr);
        exit(2);
    }
    return *next++;
}

/* Stays open to the end. */
static struct shmfs_file *opened(const char *path)
{
    struct shmfs_file *file;

    must(shmfs_open(fs, path, O_RDWR | O_CREAT, 0644, &file), path);
    return file;
}

static void lock_range(const char *action)
{
    const char *path = word();
    bool ofd = strncmp(action, "ofd", 3) == 0;
    struct flock lock = {
        .l_type = action[strlen(action) - 1] == 'w' ? F_WRLCK : F_RDLCK,
        .l_whence = SEEK_SET,
    };

    lock.l_start = strtoll(word(), NULL, 0);
    lock.l_len = strtoll(word(), NULL, 0);
    must(shmfs_fcntl(opened(path), ofd ? F_OFD_SETLK : F_SETLK, &lock), path);
}

static void write_text(const char *path, const char *text)
{
    struct shmfs_file *file = opened(path);

    must(shmfs_pwrite(file, text, strlen(text), 0), path);
    must(shmfs_close(file), path);
}

static void fill(const char *path, long mib, const char *tag)
{
    enum { PIECE = 65536, LINE = 64 };
    static char piece[PIECE + 1];
    struct shmfs_file *file = opened(path);

    for (off_t off = 0; off < mib << 20; off += PIECE) {
        for (int i = 0; i < PIECE; i += LINE)
            snprintf(piece + i, LINE + 1, "%-31.31s%32lld\n", tag, (long long)off + i);
        must(shmfs_pwrite(file, piece, PIECE, off), path);
    }
    must(shmfs_close(file), path);
}

static void map_block(const char *path)
{
    struct shmfs_file *file = opened(path);
    void *p;

    must(shmfs_ftruncate(file, 4096), path);
    must(shmfs_map(file, 0, 4096, PROT_READ | PROT_WRITE, &p), path);
    must(shmfs_close(file), path);
}

/* A file to write to all the time, or NULL. */
static struct shmfs_file *act(const char *action)
{
    if (strcmp(action, "mkdir") == 0) {
        const char *path = word();
        must(shmfs_mkdir(fs, path, 0755), path);
    } else if (strcmp(action, "symlink") == 0) {
        const char *target = word(), *path = word();
        must(shmfs_symlink(fs, target, path), path);
    } else if (strcmp(action, "write") == 0) {
        const char *path = word(), *text = word();
        write_text(path, text);
    } else if (strcmp(action, "fill") == 0) {
        const char *path = word(), *mib = word(), *tag = word();
        fill(path, strtol(mib, NULL, 0), tag);
    } else if (strcmp(action, "open") == 0) {
        opened(word());
    } else if (strcmp(action, "map") == 0) {
        map_block(word());
    } else if (strcmp(action, "flock-sh") == 0 || strcmp(action, "flock-ex") == 0) {
        must(shmfs_flock(opened(word()), action[6] == 's' ? LOCK_SH : LOCK_EX), action);
    } else if (strncmp(action, "posix-", 6) == 0 || strncmp(action, "ofd-", 4) == 0) {
        lock_range(action);
    } else if (strcmp(action, "loop") == 0) {
        return opened(word());
    } else {
        fprintf(stderr, "guest: '%s': there is no such action\n", action);
        exit(2);
    }
    return NULL;
}

static bool input_ended(int timeout_ms)
{
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

    return poll(&p, 1, timeout_ms) > 0;
}

int main(int argc, char **argv)
{
    struct shmfs_file *loop = NULL;
    char buf[4096] = { 0 };

    if (argc < 2)
        return 2;
    if (shmfs_attach(argv[1], 0, &fs) < 0) {
        fprintf(stderr, "guest: %s\n", shmfs_attach_error());
        return 1;
    }
    next = argv + 2;
    while (*next)
        loop = act(*next++);
    puts("ready");
    fflush(stdout);
    while (!input_ended(loop ? 0 : -1))
        must(shmfs_pwrite(loop, buf, sizeof(buf), 0), "loop");
    shmfs_detach(fs);
    return 0;
}
