/* SPDX-License-Identifier: MIT */
/*
 * One process that opens files and locks them as it is told, either through a mount or directly:
 *
 *   agent direct REGION      agent mount DIRECTORY
 *
 * One command a line on standard input, one answer a line: 0 or more, or a negative errno.
 *
 *   open N PATH              N is 0 to 15, from here on this open file
 *   close N
 *   posix N set|wait|get r|w|u START LENGTH
 *   ofd N set|wait|get r|w|u START LENGTH         get answers "u", or "r|w START LENGTH PID"
 *   flock N sh|ex|un set|wait
 *   add N TIMES              each time: lock all of it, add one to the number in it, unlock
 *   number N                 the number in it
 *   catch                    from here on SIGALRM interrupts what waits
 *   keep                     forks a child that keeps everything open; answers its pid
 *   drop                     kills the child
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shmfs.h"

enum { FILES = 16 };

static struct shmfs *region; /* NULL: through a mount */
static const char *directory;
static struct shmfs_file *files[FILES];
static int fds[FILES];
static pid_t child;

/* ---- both ways -------------------------------------------------------------------------------------- */

static int result(int r)
{
    return r < 0 ? -errno : r;
}

static int do_open(unsigned n, const char *path)
{
    char full[4096];

    if (region)
        return shmfs_open(region, path, O_RDWR | O_CREAT, 0666, &files[n]);
    snprintf(full, sizeof(full), "%s/%s", directory, path);
    fds[n] = open(full, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return fds[n] < 0 ? -errno : 0;
}

static int do_close(unsigned n)
{
    return region ? shmfs_close(files[n]) : result(close(fds[n]));
}

static int do_fcntl(unsigned n, int cmd, struct flock *fl)
{
    return region ? shmfs_fcntl(files[n], cmd, fl) : result(fcntl(fds[n], cmd, fl));
}

static int do_flock(unsigned n, int operation)
{
    return region ? shmfs_flock(files[n], operation) : result(flock(fds[n], operation));
}

static ssize_t do_read(unsigned n, void *buf, size_t size)
{
    ssize_t r = region ? shmfs_pread(files[n], buf, size, 0) : pread(fds[n], buf, size, 0);

    return !region && r < 0 ? -errno : r;
}

static ssize_t do_write(unsigned n, const void *buf, size_t size)
{
    ssize_t r = region ? shmfs_pwrite(files[n], buf, size, 0) : pwrite(fds[n], buf, size, 0);

    return !region && r < 0 ? -errno : r;
}

/* ---- commands --------------------------------------------------------------------------------------- */

static int command_lock(bool ofd, unsigned n, const char *how, char type, long long start, long long length)
{
    static const int commands[2][3] = { { F_SETLK, F_SETLKW, F_GETLK },
                                        { F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK } };
    struct flock fl = {
        .l_type = type == 'r'   ? F_RDLCK
                  : type == 'w' ? F_WRLCK
                                : F_UNLCK,
        .l_whence = SEEK_SET,
        .l_start = start,
        .l_len = length,
    };
    int r = do_fcntl(n, commands[ofd][*how == 's' ? 0 : *how == 'w' ? 1 : 2], &fl);

    if (*how != 'g' || r < 0)
        return r;
    if (fl.l_type == F_UNLCK)
        puts("u");
    else
        printf("%c %lld %lld %d\n", fl.l_type == F_RDLCK ? 'r' : 'w', (long long)fl.l_start,
               (long long)fl.l_len, (int)fl.l_pid);
    return 1; /* answered */
}

static int command_flock(unsigned n, const char *what, const char *how)
{
    int operation = strcmp(what, "sh") == 0 ? LOCK_SH : strcmp(what, "ex") == 0 ? LOCK_EX : LOCK_UN;

    return do_flock(n, operation | (*how == 's' ? LOCK_NB : 0));
}

/* Loses counts unless everybody else stays out meanwhile. */
static int command_add(unsigned n, unsigned long times)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char text[32] = { 0 };
    int r = 0;

    for (; r >= 0 && times > 0; times--) {
        fl.l_type = F_WRLCK;
        r = do_fcntl(n, F_SETLKW, &fl);
        if (r >= 0)
            r = (int)do_read(n, text, sizeof(text) - 1);
        if (r >= 0) {
            snprintf(text, sizeof(text), "%020lu", strtoul(text, NULL, 10) + 1);
            r = (int)do_write(n, text, strlen(text));
        }
        fl.l_type = F_UNLCK;
        if (r >= 0)
            r = do_fcntl(n, F_SETLK, &fl);
    }
    return r < 0 ? r : 0;
}

static int command_number(unsigned n)
{
    char text[32] = { 0 };
    int r = (int)do_read(n, text, sizeof(text) - 1);

    return r < 0 ? r : (int)strtoul(text, NULL, 10);
}

static void interrupted(int sig)
{
    (void)sig;
}

static int command_catch(void)
{
    const struct sigaction action = { .sa_handler = interrupted }; /* without SA_RESTART */

    return result(sigaction(SIGALRM, &action, NULL));
}

static int command_keep(void)
{
    child = fork();
    if (child == 0) {
        for (;;)
            pause();
    }
    return child < 0 ? -errno : (int)child;
}

static int command_drop(void)
{
    if (kill(child, SIGKILL) < 0 || waitpid(child, NULL, 0) < 0)
        return -errno;
    return 0;
}

/* 0 and more, a negative errno; *ret_answered: it has been printed. */
static int command(char *line, bool *ret_answered)
{
    char word[16] = "", a[4096] = "", b[16] = "";
    long long start = 0, length = 0;
    unsigned n = 0;
    char type = 0;
    int r = -EINVAL;

    sscanf(line, "%15s", word);
    if (sscanf(line, "open %u %4095s", &n, a) == 2 && n < FILES)
        return do_open(n, a);
    if (sscanf(line, "close %u", &n) == 1 && n < FILES)
        return do_close(n);
    if (sscanf(line, "%*s %u %15s %c %lld %lld", &n, b, &type, &start, &length) == 5 && n < FILES) {
        r = command_lock(strcmp(word, "ofd") == 0, n, b, type, start, length);
        *ret_answered = r == 1 && *b == 'g';
        return r;
    }
    if (sscanf(line, "flock %u %15s %15s", &n, a, b) == 3 && n < FILES)
        return command_flock(n, a, b);
    if (sscanf(line, "add %u %lld", &n, &start) == 2 && n < FILES)
        return command_add(n, (unsigned long)start);
    if (sscanf(line, "number %u", &n) == 1 && n < FILES)
        return command_number(n);
    if (strcmp(word, "catch") == 0)
        return command_catch();
    if (strcmp(word, "keep") == 0)
        return command_keep();
    if (strcmp(word, "drop") == 0)
        return command_drop();
    return r;
}

int main(int argc, char **argv)
{
    char line[8192];

    if (argc != 3)
        return 2;
    directory = argv[2];
    if (strcmp(argv[1], "direct") == 0 && shmfs_attach(argv[2], 0, &region) < 0) {
        fprintf(stderr, "agent: %s\n", shmfs_attach_error());
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof(line), stdin)) {
        bool answered = false;
        int r = command(line, &answered);

        if (!answered)
            printf("%d\n", r);
    }
    if (region)
        shmfs_detach(region);
    return 0;
}
