/* SPDX-License-Identifier: MIT */
/* Where the file lies: a region with a mount, or without; or a directory on tmpfs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exercise.h"

const char exercise_file[] = "/file", exercise_other[] = "/other";

static struct {
    char region[64], mount[64], tmpfs[64];
    pid_t driver;
    struct shmfs *fs;
} world;

static int trouble(const char *what, const char *why)
{
    fprintf(stderr, "exercise: %s: %s\n", what, why);
    return 1;
}

/* ---- programs -------------------------------------------------------------------------------------- */

/* Starts BUILD/program; it ends with us. */
static pid_t start(const char *program, const char *const argv[])
{
    const char *build = getenv("BUILD");
    char path[300];
    pid_t parent = getpid(), pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    snprintf(path, sizeof(path), "%s/%s", build != NULL ? build : "build", program);
    execv(path, (char *const *)(uintptr_t)argv);
    fprintf(stderr, "exercise: %s: %s; name the build directory with BUILD\n", path, strerror(errno));
    _exit(127);
}

static int run(const char *program, const char *const argv[])
{
    pid_t pid = start(program, argv);
    int status = -1;

    if (pid > 0)
        waitpid(pid, &status, 0);
    return status == 0 ? 0 : trouble(program, "has failed");
}

static bool is_mounted(void)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[1000], want[sizeof(world.mount) + 2];
    bool found = false;

    snprintf(want, sizeof(want), " %s ", world.mount);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        found |= strstr(line, want) != NULL;
    if (f != NULL)
        fclose(f);
    return found;
}

/* The kernel wakes who polls the list of mounts; now and then it is seen whether the driver is still there. */
static int driver_start(enum cache cache)
{
    static const char *const names[] = { "coherent", "none", "writeback" };
    char options[160];

    snprintf(options, sizeof(options), "region=%s,size=64M,cache=%s", world.region, names[cache]);
    const char *const argv[] = { "shmfs", "-f", "-o", options, world.mount, NULL };
    struct pollfd mounts = { .fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC), .events = POLLPRI };

    world.driver = start("fs/shmfs", argv);
    while (world.driver > 0 && !is_mounted()) {
        if (waitpid(world.driver, NULL, WNOHANG) != 0)
            world.driver = 0;
        else
            poll(&mounts, 1, 100);
    }
    close(mounts.fd);
    return world.driver > 0 ? 0 : trouble("the driver", "has ended instead of mounting");
}

static int driver_stop(void)
{
    int status = -1, failed = 0;

    if (umount2(world.mount, UMOUNT_NOFOLLOW) < 0) {
        failed = trouble("umount", strerror(errno));
        umount2(world.mount, MNT_DETACH | UMOUNT_NOFOLLOW);
        kill(world.driver, SIGTERM);
    }
    waitpid(world.driver, &status, 0);
    world.driver = 0;
    return status == 0 ? failed : trouble("the driver", "has ended badly");
}

/* ---- open files ------------------------------------------------------------------------------------ */

static bool open_one(struct exercise *x, struct side *s, int flags, struct handle *h)
{
    return gave(x, "open", face_open(&s->face, exercise_file, O_RDWR | O_CREAT | flags, h), 0);
}

bool side_open(struct exercise *x, struct side *s, int more_flags)
{
    return open_one(x, s, more_flags, &s->file) && open_one(x, s, O_APPEND, &s->appending) &&
           (s->face.fs != NULL || open_one(x, s, O_DIRECT, &s->unbuffered));
}

bool side_close(struct exercise *x, struct side *s)
{
    return gave(x, "close", face_close(&s->file), 0) && gave(x, "close", face_close(&s->appending), 0) &&
           gave(x, "close", face_close(&s->unbuffered), 0);
}

/* ---- all ------------------------------------------------------------------------------------------- */

static int open_twin(struct exercise *x)
{
    char name[64];

    snprintf(name, sizeof(name), "/dev/shm/shmfs-exercise-%d.twin", (int)getpid());
    x->twin = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_EXCL, 0600);
    unlink(name);
    return x->twin < 0 ? trouble(name, strerror(errno)) : 0;
}

static int open_region(struct exercise *x)
{
    const char *const argv[] = { "mkfs.shmfs", "-q", "-s", "64M", world.region, NULL };

    if (x->way == WAY_DIRECT)
        return run("mkfs/mkfs.shmfs", argv);
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0) {
        trouble("mounting", "needs root and /dev/fuse");
        return 77;
    }
    if (mkdir(world.mount, 0700) < 0)
        return trouble(world.mount, strerror(errno));
    return driver_start(x->cache);
}

static void add_side(struct exercise *x, const char *name, struct shmfs *fs, const char *mount)
{
    x->sides[x->nsides++] = (struct side){ .name = name, .face = { .fs = fs, .mount = mount } };
}

int world_open(struct exercise *x)
{
    int r = open_twin(x), me = (int)getpid();

    snprintf(world.region, sizeof(world.region), "/dev/shm/shmfs-exercise-%d", me);
    snprintf(world.mount, sizeof(world.mount), "/tmp/shmfs-exercise-%d", me);
    if (r == 0 && x->way == WAY_TMPFS) {
        snprintf(world.tmpfs, sizeof(world.tmpfs), "/dev/shm/shmfs-exercise-%d.d", me);
        r = mkdir(world.tmpfs, 0700) < 0 ? trouble(world.tmpfs, strerror(errno)) : 0;
        add_side(x, "tmpfs", NULL, world.tmpfs);
    } else if (r == 0) {
        r = open_region(x);
    }
    if (r == 0 && (x->way == WAY_MOUNT || x->way == WAY_BOTH))
        add_side(x, "mount", NULL, world.mount);
    if (r == 0 && (x->way == WAY_DIRECT || x->way == WAY_BOTH)) {
        if (shmfs_attach(world.region, 0, &world.fs) < 0)
            return trouble("attaching", shmfs_attach_error());
        add_side(x, "direct", world.fs, NULL);
    }
    for (unsigned i = 0; i < x->nsides && r == 0; i++)
        r = side_open(x, &x->sides[i], 0) ? 0 : 1;
    return r;
}

int world_close(struct exercise *x)
{
    const char *const argv[] = { "fsck.shmfs", "-n", world.region, NULL };
    int failed = 0;

    for (unsigned i = 0; i < x->nsides; i++) {
        struct side *s = &x->sides[i];

        if (s->held != NULL)
            face_unmap(&s->face, s->held, s->held_len);
        side_close(x, s);
        if (x->way != WAY_TMPFS)
            continue; /* the check is to see the files */
        face_unlink(&s->face, exercise_file);
        face_unlink(&s->face, exercise_other);
    }
    if (world.fs != NULL)
        shmfs_detach(world.fs);
    if (world.driver > 0)
        failed |= driver_stop();
    if (x->way != WAY_TMPFS && access(world.region, F_OK) == 0)
        failed |= run("tools/fsck.shmfs", argv);
    unlink(world.region);
    rmdir(world.mount);
    rmdir(world.tmpfs);
    close(x->twin);
    return failed;
}
