/* SPDX-License-Identifier: MIT */
#include "proc.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static off_t life_byte(const struct shmfs *fs, uint32_t index)
{
    return (off_t)(fs->l.procs + (uint64_t)index * sizeof(struct proc_entry));
}

/*
 * Takes the life lock, on an open file description of its own that only a mapping keeps open: so it is
 * the kernel that lets go of it when the address space ends (death of the last thread, or exec), whatever
 * descriptors a program closes or its children inherit. 0, or -EBUSY.
 */
static int life_begin(struct shmfs *fs, uint32_t index, bool inherit, void **ret_life)
{
    struct flock fl = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = life_byte(fs, index), .l_len = 1
    };
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fs->fd);
    if (!region_fd_ok(fs))
        return -EIO;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fcntl(fd, F_OFD_SETLK, &fl) < 0)
        return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
    void *p = mmap(NULL, BLOCK_SIZE, PROT_NONE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    if (!inherit)
        madvise(p, BLOCK_SIZE, MADV_DONTFORK);
    *ret_life = p;
    return 0;
}

static void life_end(struct shmfs *fs)
{
    if (fs->life != NULL)
        munmap(fs->life, BLOCK_SIZE);
    fs->life = NULL;
}

/* Does anybody else hold the life lock? On doubt, yes: a wrong "dead" would be fatal. */
static bool life_locked(struct shmfs *fs, uint32_t index)
{
    /* Asked as a reader: monitors that hold read locks cannot feign life. */
    struct flock fl = {
        .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = life_byte(fs, index), .l_len = 1
    };

    return !region_fd_ok(fs) || fcntl(fs->fd, F_OFD_GETLK, &fl) != 0 || fl.l_type != F_UNLCK;
}

uint64_t proc_own_ns(void)
{
    struct stat st;

    return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

/* Field 22 of /proc/PID/stat, and whether the process still runs; 0 where it does not. */
static uint64_t running_since(uint32_t pid)
{
    char path[32], buf[1024];
    unsigned long long start = 0;
    char state = 0;

    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, buf, sizeof(buf) - 1);
    if (n <= 0)
        return 0;
    buf[n] = 0;
    char *p = strrchr(buf, ')'); /* the name may hold anything */
    if (p == NULL ||
        sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &state, &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}

static void read_name(char *name, size_t n)
{
    AUTO_CLOSE int fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, name, n - 1);

    memset(name + MAX(got, 0), 0, n - (size_t)MAX(got, 0));
    name[strcspn(name, "\n")] = 0;
}

/* To the driver, which watches over processes that it knows of; and to who looks for uses (use_any()). */
void proc_say_changed(struct shmfs *fs)
{
    __atomic_add_fetch(&fs->rt->nattach, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &fs->rt->nattach, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void describe_self(struct proc_entry *e)
{
    e->pid = (uint32_t)getpid();
    e->uid = geteuid();
    e->pid_ns = proc_own_ns();
    e->start_time = running_since(e->pid);
    read_name(e->name, sizeof(e->name));
}

/* Takes the first free one of entries [from, to). */
static int enroll(struct shmfs *fs, uint32_t from, uint32_t to, bool inherit, struct procref *ret,
                  void **ret_life)
{
    bool driver = !inherit && (fs->flags & SHMFS_ATTACH_DRIVER) != 0;
    struct timespec now;

    for (uint32_t i = from; i < to; i++) {
        struct proc_entry *e = &fs->procs[i];

        if (LOAD(&e->inc) != 0)
            continue;
        int r = life_begin(fs, i, inherit, ret_life);
        if (r == -EBUSY)
            continue;
        if (r < 0)
            return r;
        clock_gettime(CLOCK_REALTIME, &now);
        describe_self(e); /* a child says anew who it is */
        e->attached = now.tv_sec;
        e->flags = driver ? PROC_DRIVER : 0;
        uint64_t inc = (fs->rt->next_inc + 1) & ((UINT64_C(1) << 48) - 1);
        inc = MAX(inc, UINT64_C(1));
        STORE(&fs->rt->next_inc, inc);
        STORE(&e->inc, inc); /* from here on the entry counts */
        *ret = proc_ref(i, inc);
        proc_say_changed(fs);
        return 0;
    }
    return -EUSERS;
}

int proc_enroll(struct shmfs *fs)
{
    return enroll(fs, 0, fs->l.nprocs - 1, false, &fs->self, &fs->life);
}

int proc_enroll_to_bury(struct shmfs *fs)
{
    return enroll(fs, fs->l.nprocs - 1, fs->l.nprocs, false, &fs->self, &fs->life);
}

int proc_inherit_to_bury(struct shmfs *fs)
{
    uint32_t i = fs->l.nprocs - 1;
    uint64_t inc = LOAD(&fs->procs[i].inc);
    int r;

    if (inc == 0)
        return -EBUSY;
    r = life_begin(fs, i, false, &fs->life);
    if (r == 0)
        fs->self = proc_ref(i, inc);
    return r;
}

int proc_enroll_child(struct shmfs *fs, struct procref *ret, void **ret_life)
{
    return enroll(fs, 0, fs->l.nprocs - 1, true, ret, ret_life);
}

void proc_become_child(struct shmfs *fs, struct procref child, void *life)
{
    fs->self = child;
    fs->life = life;
    madvise(life, BLOCK_SIZE, MADV_DONTFORK);
    describe_self(&fs->procs[proc_index(child)]);
}

void proc_leave(struct shmfs *fs)
{
    uint32_t i = proc_index(fs->self);

    if (fs->self.v == 0)
        return;
    STORE(&fs->procs[i].inc, 0);
    life_end(fs);
    fs->self.v = 0;
    proc_say_changed(fs);
}

bool proc_alive(struct shmfs *fs, struct procref ref)
{
    uint32_t i = proc_index(ref);

    if (ref.v == 0 || i >= fs->l.nprocs)
        return false;
    if (ref.v == fs->self.v)
        return true;
    if (LOAD(&fs->procs[i].inc) != proc_inc(ref))
        return false;
    return life_locked(fs, i);
}

bool proc_get(struct shmfs *fs, uint32_t index, struct proc_entry *ret, struct procref *ret_ref)
{
    uint64_t inc = index < fs->l.nprocs ? LOAD(&fs->procs[index].inc) : 0;

    if (inc == 0)
        return false;
    *ret = fs->procs[index];
    ret->name[sizeof(ret->name) - 1] = 0;
    *ret_ref = proc_ref(index, inc);
    return true;
}

bool proc_other(struct shmfs *fs, uint32_t *ret_pid)
{
    struct proc_entry e;
    struct procref ref;

    for (uint32_t i = 0; i < fs->l.nprocs; i++) {
        if (proc_get(fs, i, &e, &ref) && ref.v != fs->self.v && proc_alive(fs, ref)) {
            if (ret_pid != NULL)
                *ret_pid = e.pid;
            return true;
        }
    }
    return false;
}

int proc_file_in_use(const char *path, struct shmfs_diag *diag)
{
    struct shmfs_diag unused;
    struct shmfs *fs;
    struct stat st;
    uint32_t pid = 0;
    bool used;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISREG(st.st_mode)) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_NOT_FILE };
        return -EINVAL;
    }
    if (region_open(path, SHMFS_ATTACH_PRIVATE, &fs, &unused) < 0)
        return 0; /* not a region: --force was said */
    used = proc_other(fs, &pid);
    region_close(fs);
    if (used)
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IN_USE, .a = pid };
    return used ? -EBUSY : 0;
}
