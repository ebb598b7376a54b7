/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guard.h"

enum {
    TOLD = SIGUSR1,
    LOOK_MS = 5,
    GRACE_MS = 100,
};

pid_t guard_start(const char *mountpoint)
{
    char device[16], driver[16];
    char *const argv[] = { "shmfs-guard", GUARD_OPTION, device, driver, NULL };
    char *const env[] = { NULL };
    struct statx sx;
    pid_t pid;

    /* Without a request: there is nobody yet to answer one. */
    if (statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC, 0, &sx) < 0)
        return 0;
    snprintf(device, sizeof(device), "%u", sx.stx_dev_minor);
    snprintf(driver, sizeof(driver), "%d", (int)getpid());
    return posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, env) == 0 ? pid : 0;
}

void guard_stop(pid_t guard)
{
    if (guard <= 0)
        return;
    kill(guard, SIGKILL);
    while (waitpid(guard, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void nap(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
}

/* A thread of it may be left: its first one tells. */
static bool is_dead(long pid)
{
    char path[40], text[400];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    f = fopen(path, "re");
    if (f == NULL)
        return errno == ENOENT || errno == ESRCH;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *state = strrchr(text, ')'); /* behind the name, which may be anything */
    return state != NULL && (state[2] == 'Z' || state[2] == 'X');
}

static bool is_dead_within(long pid, unsigned ms)
{
    for (unsigned waited = 0; waited < ms && !is_dead(pid); waited += LOOK_MS)
        nap();
    return is_dead(pid);
}

/*
 * Of a dead driver: is a thread left? As long as there is one the device is open, and its number nobody else's. Usually the
 * last is gone within a few milliseconds, and the kernel has ended the connection itself.
 */
static bool has_threads(long pid)
{
    char path[40];
    unsigned n = 0;

    snprintf(path, sizeof(path), "/proc/%ld/task", pid);
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.' && strtol(e->d_name, NULL, 10) != pid;
    if (dir != NULL)
        closedir(dir);
    return n > 0;
}

static bool has_threads_after(long pid, unsigned ms)
{
    for (unsigned waited = 0; waited < ms && has_threads(pid); waited += LOOK_MS)
        nap();
    return has_threads(pid);
}

/* As the owner of the mount may, where fusectl is mounted. */
static bool abort_by_file(unsigned device)
{
    char path[60];

    snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", device);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0)
        close(fd);
    return done;
}

/* Where it is mounted; octal escapes as they stand are undone. False: nowhere that this process sees. */
static bool find_mount(unsigned device, char path[PATH_MAX])
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    unsigned minor;

    while (f != NULL && !found && getline(&line, &size, f) > 0) {
        char at[PATH_MAX];

        if (sscanf(line, "%*d %*d 0:%u %*s %4095s", &minor, at) != 2 || minor != device)
            continue;
        char *to = path;
        for (const char *from = at; *from != '\0'; to++) {
            unsigned c;
            if (sscanf(from, "\\%3o", &c) == 1) {
                *to = (char)c;
                from += 4;
            } else {
                *to = *from++;
            }
        }
        *to = '\0';
        found = true;
    }
    free(line);
    if (f != NULL)
        fclose(f);
    return found;
}

/* As root may. The mount point stays: what was mounted there is not to be confused with what is below it. */
static void abort_by_force(unsigned device)
{
    char path[PATH_MAX];

    if (!find_mount(device, path))
        return;
    int busy = open(path, O_PATH | O_CLOEXEC);
    if (busy >= 0) {
        umount2(path, MNT_FORCE);
        close(busy);
    }
}

int guard_main(int argc, char **argv)
{
    const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE };
    sigset_t told;
    int got;

    if (argc != 4)
        return 2;
    unsigned device = (unsigned)strtoul(argv[2], NULL, 10);
    long driver = strtol(argv[3], NULL, 10);
    /* Whoever started the driver may read what it says to the end. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || chdir("/") < 0)
        return 1;
    close_range(3, ~0U, 0);
    prctl(PR_SET_NAME, "shmfs-guard");
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&told);
    sigaddset(&told, TOLD);
    sigprocmask(SIG_BLOCK, &told, NULL);
    prctl(PR_SET_PDEATHSIG, TOLD); /* when the thread ends that started us */
    while (!is_dead_within(driver, GRACE_MS))
        sigwait(&told, &got); /* it comes just before that can be seen */
    if (has_threads_after(driver, GRACE_MS) && !abort_by_file(device))
        abort_by_force(device);
    return 0;
}
