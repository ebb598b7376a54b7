/* SPDX-License-Identifier: MIT */
/*
 * A program beside a mount: attaches through the mount point, reads what the mount wrote and leaves a
 * file for the mount to read.
 *   direct WHERE read PATH            prints the file
 *   direct WHERE write PATH TEXT      makes it
 *   direct WHERE sync PATH TEXT [PID] makes it, has it synced, and stops that process at once
 *   direct WHERE inode PATH           prints the inode number that it has
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shmfs.h"

static int fail(const char *what, long r)
{
    fprintf(stderr, "direct: %s: %s\n", what, strerror((int)-r));
    return 1;
}

static int read_file(struct shmfs *fs, const char *path)
{
    struct shmfs_file *file;
    char buf[4096];
    int r = shmfs_open(fs, path, O_RDONLY, 0, &file);

    if (r < 0)
        return fail(path, r);
    ssize_t n = shmfs_pread(file, buf, sizeof(buf), 0);
    if (n < 0)
        return fail(path, n);
    fwrite(buf, 1, (size_t)n, stdout);
    return shmfs_close(file) < 0;
}

static int write_file(struct shmfs *fs, const char *path, const char *text, bool sync, pid_t stop)
{
    struct shmfs_file *file;
    int r = shmfs_open(fs, path, O_WRONLY | O_CREAT | O_TRUNC, 0644, &file);

    if (r < 0)
        return fail(path, r);
    ssize_t n = shmfs_pwrite(file, text, strlen(text), 0);
    if (n < 0)
        return fail(path, n);
    r = sync ? shmfs_fsync(file) : 0;
    if (stop > 0)
        kill(stop, SIGSTOP);
    if (r < 0)
        return fail(path, r);
    return shmfs_close(file) < 0;
}

static int print_number(struct shmfs *fs, const char *path)
{
    struct stat st;
    int r = shmfs_stat(fs, path, &st);

    if (r < 0)
        return fail(path, r);
    printf("%ju\n", (uintmax_t)st.st_ino);
    return 0;
}

int main(int argc, char **argv)
{
    struct shmfs *fs;
    int rc = 2;

    if (argc < 4)
        return rc;
    if (shmfs_attach(argv[1], 0, &fs) < 0) {
        fprintf(stderr, "direct: %s\n", shmfs_attach_error());
        return 1;
    }
    if (strcmp(argv[2], "read") == 0)
        rc = read_file(fs, argv[3]);
    else if (strcmp(argv[2], "write") == 0 && argc == 5)
        rc = write_file(fs, argv[3], argv[4], false, 0);
    else if (strcmp(argv[2], "sync") == 0 && argc >= 5)
        rc = write_file(fs, argv[3], argv[4], true, argc > 5 ? (pid_t)atoi(argv[5]) : 0);
    else if (strcmp(argv[2], "inode") == 0)
        rc = print_number(fs, argv[3]);
    shmfs_detach(fs);
    return rc;
}
