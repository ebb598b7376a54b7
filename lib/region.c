/* SPDX-License-Identifier: MIT */
#include "region.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

/* ---- SIGBUS: the region file was shortened (P6) ------------------------------------------------ */

/*
 * A page of the mapping that is gone is replaced by a private page of zeros and the attach is marked
 * broken. The interrupted operation goes on with zeros, which its bounds checks bear, and its caller
 * gets -EIO at the end; no lock is leaked by a jump. Faults elsewhere go to who was there before us.
 *
 * A reader without a lock may also come to a page that was given back to a host that now has none left
 * (A15). What it reads does not count, so that is no damage: the page is mapped back when it has done.
 */
enum { GUARDED_MAX = 1024 };
_Thread_local int region_reading __attribute__((tls_model("initial-exec")));
static struct {
    uint8_t *base;
    uint64_t len;
    struct shmfs *fs;
} guarded[GUARDED_MAX];
static pthread_mutex_t guard_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction guard_old;

static void guard_chain(int sig, siginfo_t *info, void *context)
{
    if (guard_old.sa_flags & SA_SIGINFO) {
        guard_old.sa_sigaction(sig, info, context);
    } else if (guard_old.sa_handler != SIG_DFL && guard_old.sa_handler != SIG_IGN) {
        guard_old.sa_handler(sig);
    } else {
        sigaction(sig, &guard_old, NULL); /* the fault comes again and ends the process as it should */
    }
}

/* A hole, and not the end of the file? Then `page` waits to be mapped back. */
static bool guard_is_hole(struct shmfs *fs, uintptr_t page)
{
    struct stat st;
    uint64_t off = page - (uintptr_t)fs->base;

    if (region_reading == 0 || fs->private_ || fstat(fs->fd, &st) < 0 || st.st_dev != fs->dev ||
        st.st_ino != fs->ino || off + BLOCK_SIZE > (uint64_t)st.st_size)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(fs->holes); i++) {
        uint64_t none = 0;
        if (CAS(&fs->holes[i], &none, (uint64_t)page)) {
            STORE(&fs->any_hole, 1);
            return true;
        }
    }
    return false;
}

void region_mend(struct shmfs *fs)
{
    STORE(&fs->any_hole, 0); /* before we look: what comes now says so again */
    for (size_t i = 0; i < ARRAY_SIZE(fs->holes); i++) {
        uint64_t page = LOAD(&fs->holes[i]);

        if (page == 0)
            continue;
        if (!region_fd_ok(fs) ||
            mmap((void *)(uintptr_t)page, BLOCK_SIZE, fs->readonly ? PROT_READ : PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fs->fd,
                 (off_t)(page - (uintptr_t)fs->base)) == MAP_FAILED)
            STORE(&fs->broken, 1);
        else
            madvise((void *)(uintptr_t)page, BLOCK_SIZE, MADV_DONTFORK);
        STORE(&fs->holes[i], UINT64_C(0));
    }
}

static void guard_handler(int sig, siginfo_t *info, void *context)
{
    uintptr_t addr = (uintptr_t)info->si_addr;
    int saved = errno;

    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++) {
        uintptr_t base = (uintptr_t)LOAD(&guarded[i].base);
        if (base == 0 || addr < base || addr - base >= guarded[i].len)
            continue;
        struct shmfs *fs = guarded[i].fs;
        uintptr_t page = addr & ~(uintptr_t)(BLOCK_SIZE - 1);
        bool hole = base == (uintptr_t)fs->base && guard_is_hole(fs, page);
        void *p = mmap((void *)page, BLOCK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (p == MAP_FAILED)
            break;
        if (!hole)
            STORE(&fs->broken, 1);
        errno = saved;
        return;
    }
    errno = saved;
    guard_chain(sig, info, context);
}

/*
 * Once. Somebody may have put a handler of its own in front of ours since, which calls ours: then ours must not go in
 * front of that again. But where ours was thrown out for the default, it comes back.
 */
static void guard_install(void)
{
    static bool installed;
    struct sigaction sa = { .sa_sigaction = guard_handler, .sa_flags = SA_SIGINFO | SA_NODEFER }, now;

    sigemptyset(&sa.sa_mask);
    if (sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
        now.sa_sigaction == guard_handler)
        return;
    if (installed && ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL))
        return;
    if (sigaction(SIGBUS, &sa, &guard_old) == 0)
        installed = true;
}

int region_guard(struct shmfs *fs, void *base, uint64_t len)
{
    int r = -ENOMEM;

    pthread_mutex_lock(&guard_mutex);
    guard_install();
    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++) {
        if (guarded[i].base != NULL)
            continue;
        guarded[i].len = len;
        guarded[i].fs = fs;
        STORE(&guarded[i].base, (uint8_t *)base);
        r = 0;
        break;
    }
    pthread_mutex_unlock(&guard_mutex);
    return r;
}

void region_unguard(struct shmfs *fs, void *base)
{
    pthread_mutex_lock(&guard_mutex);
    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++) {
        if (guarded[i].fs == fs && guarded[i].base == base)
            STORE(&guarded[i].base, NULL);
    }
    pthread_mutex_unlock(&guard_mutex);
}

void region_fork_before(void)
{
    pthread_mutex_lock(&guard_mutex);
}

void region_fork_after(void)
{
    pthread_mutex_unlock(&guard_mutex);
}

/* ---- validation -------------------------------------------------------------------------------- */

static int refuse(struct shmfs_diag *diag, enum shmfs_reason reason, uint64_t a, uint64_t b, int err)
{
    *diag = (struct shmfs_diag){ .reason = reason, .a = a, .b = b };
    return err;
}

int region_check(const struct superblock *sb, uint64_t file_size, struct layout *ret_layout,
                 struct shmfs_diag *diag)
{
    struct layout l = {
        .max_blocks = sb->max_blocks,
        .ninodes = sb->ninodes,
        .group_blocks = sb->group_blocks,
        .group_inodes = sb->group_inodes,
        .ngroups = sb->ngroups,
        .nslots = sb->nslots,
        .nprocs = sb->nprocs,
    };

    if (memcmp(sb->magic, FORMAT_MAGIC, sizeof(sb->magic)) != 0)
        return refuse(diag, SHMFS_REASON_NOT_REGION, 0, 0, -EUCLEAN);
    if (sb->byte_order != FORMAT_BYTE_ORDER)
        return refuse(diag, SHMFS_REASON_BYTE_ORDER, 0, 0, -EUCLEAN);
    if (sb->version != FORMAT_VERSION)
        return refuse(diag, SHMFS_REASON_VERSION, sb->version, FORMAT_VERSION, -EUCLEAN);
    if (layout_checksum(sb) != sb->checksum)
        return refuse(diag, SHMFS_REASON_CHECKSUM, 0, 0, -EUCLEAN);
    if ((sb->incompat & ~FORMAT_INCOMPAT_KNOWN) != 0)
        return refuse(diag, SHMFS_REASON_FEATURE, sb->incompat & ~FORMAT_INCOMPAT_KNOWN, 0, -EUCLEAN);
    if (sb->layout_hash != layout_hash())
        return refuse(diag, SHMFS_REASON_LAYOUT, 0, 0, -EUCLEAN);
    if (sb->block_size != BLOCK_SIZE || layout_compute(&l) < 0 || sb->nblocks < 2 ||
        sb->nblocks > l.max_blocks)
        return refuse(diag, SHMFS_REASON_GEOMETRY, 0, 0, -EUCLEAN);

    uint64_t want = l.blocks + sb->nblocks * BLOCK_SIZE;
    if (file_size < want)
        return refuse(diag, SHMFS_REASON_TRUNCATED, file_size, want, -EUCLEAN);
    *ret_layout = l;
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------------- */

static int open_file(const char *path, unsigned flags, struct stat *ret_st, struct shmfs_diag *diag)
{
    bool ro = (flags & (SHMFS_ATTACH_RDONLY | SHMFS_ATTACH_PRIVATE)) != 0;
    AUTO_CLOSE int fd = -1;
    int ret;

    /* O_NONBLOCK: a FIFO of that name must not hang us. */
    fd = open(path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENXIO || errno == EISDIR || errno == ELOOP
                   ? refuse(diag, SHMFS_REASON_NOT_FILE, 0, 0, -errno)
                   : -errno;
    if (fstat(fd, ret_st) < 0)
        return -errno;
    if (!S_ISREG(ret_st->st_mode))
        return refuse(diag, SHMFS_REASON_NOT_FILE, 0, 0, -EINVAL);
    if ((flags & SHMFS_ATTACH_TRUSTED) != 0 && (ret_st->st_uid != geteuid() || (ret_st->st_mode & 022) != 0))
        return -EPERM;
    ret = fd;
    fd = -1;
    return ret;
}

void region_set_pointers(struct shmfs *fs)
{
    const struct layout *l = &fs->l;

    fs->sb = (void *)fs->base;
    fs->rt = (void *)(fs->base + l->runtime);
    fs->procs = (void *)(fs->base + l->procs);
    fs->slots = (void *)(fs->base + l->slots);
    fs->uses = (void *)(fs->base + l->uses);
    fs->ranges = (void *)(fs->base + l->ranges);
    fs->absent = (void *)(fs->base + l->absent);
    fs->inode_rts = (void *)(fs->base + l->inode_rt);
    fs->group_rts = (void *)(fs->base + l->group_rt);
    fs->dirty_sums = (void *)(fs->base + l->dirty_sums);
    fs->dirty = (void *)(fs->base + l->dirty);
    fs->groups = (void *)(fs->base + l->group_desc);
    fs->block_maps = fs->base + l->block_maps;
    fs->inode_maps = fs->base + l->inode_maps;
    fs->inodes = (void *)(fs->base + l->inodes);
    fs->blocks = fs->base + l->blocks;
}

static int map_file(struct shmfs *fs, unsigned flags)
{
    int prot = PROT_READ | PROT_WRITE;
    int how = MAP_SHARED | MAP_NORESERVE;

    fs->map_len = fs->l.end;
    if (flags & SHMFS_ATTACH_PRIVATE) {
        how = MAP_PRIVATE | MAP_NORESERVE;
    } else if (flags & SHMFS_ATTACH_RDONLY) {
        prot = PROT_READ;
    }
    if (fs->map_len > SIZE_MAX)
        return -EFBIG;
    void *p = mmap(NULL, (size_t)fs->map_len, prot, how, fs->fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    fs->base = p;
    madvise(p, (size_t)fs->map_len, MADV_DONTFORK); /* A12: a child never has a mapping without a slot */
    return 0;
}

int region_open(const char *path, unsigned flags, struct shmfs **ret_fs, struct shmfs_diag *diag)
{
    static uint64_t next_id;
    struct superblock sb;
    struct layout l;
    struct stat st;
    int r;

    *diag = (struct shmfs_diag){ 0 };
    AUTO_CLOSE int fd = open_file(path, flags, &st, diag);
    if (fd < 0)
        return fd;
    ssize_t n = pread(fd, &sb, sizeof(sb), 0);
    if (n < 0)
        return -errno;
    if ((size_t)n < sizeof(sb))
        return refuse(diag, SHMFS_REASON_NOT_REGION, 0, 0, -EUCLEAN);
    r = region_check(&sb, (uint64_t)st.st_size, &l, diag);
    if (r < 0)
        return r;
    bool writes = (flags & SHMFS_ATTACH_RDONLY) == 0;
    if (writes && (sb.ro_compat & ~FORMAT_RO_COMPAT_KNOWN) != 0)
        return refuse(diag, SHMFS_REASON_FEATURE, 0, sb.ro_compat & ~FORMAT_RO_COMPAT_KNOWN, -EUCLEAN);

    AUTO_FREE struct shmfs *fs = calloc(1, sizeof(*fs));
    if (fs == NULL)
        return -ENOMEM;
    fs->fd = fd;
    fs->dev = st.st_dev;
    fs->ino = st.st_ino;
    fs->l = l;
    fs->flags = flags;
    fs->private_ = (flags & SHMFS_ATTACH_PRIVATE) != 0;
    fs->readonly = !writes;
    fs->hash_seed = sb.hash_seed;
    fs->hash_mask = ~UINT64_C(0);
    fs->id = __atomic_add_fetch(&next_id, 1, __ATOMIC_RELAXED);
    pthread_mutex_init(&fs->lock, NULL);
    pthread_mutex_init(&fs->snapshots, NULL);
    r = map_file(fs, flags);
    if (r < 0)
        return r;
    region_set_pointers(fs);
    r = region_guard(fs, fs->base, fs->map_len);
    if (r < 0) {
        munmap(fs->base, (size_t)fs->map_len);
        return r;
    }
    *ret_fs = fs;
    fs = NULL;
    fd = -1;
    return 0;
}

uint64_t region_file_size(const struct shmfs *fs)
{
    struct stat st;

    return fstat(fs->fd, &st) == 0 && (uint64_t)st.st_size > fs->l.blocks ? (uint64_t)st.st_size
                                                                          : fs->l.blocks;
}

void region_close(struct shmfs *fs)
{
    region_unguard(fs, fs->base);
    munmap(fs->base, (size_t)fs->map_len);
    if (region_fd_ok(fs))
        close(fs->fd);
    pthread_mutex_destroy(&fs->lock);
    pthread_mutex_destroy(&fs->snapshots);
    free(fs);
}

void region_geometry(const struct superblock *sb, const struct layout *l, struct shmfs_geometry *ret)
{
    *ret = (struct shmfs_geometry){
        .size = sb->nblocks * BLOCK_SIZE,
        .max_size = l->max_blocks * BLOCK_SIZE,
        .file_size = l->blocks + sb->nblocks * BLOCK_SIZE,
        .meta_size = l->blocks,
        .inodes = l->ninodes - 1,
        .groups = l->ngroups,
        .group_blocks = l->group_blocks,
        .group_inodes = l->group_inodes,
        .slots = l->nslots,
        .procs = l->nprocs,
        .block_size = BLOCK_SIZE,
        .version = sb->version,
        .made = sb->made,
    };
    memcpy(ret->uuid, sb->uuid, sizeof(ret->uuid));
    memcpy(ret->label, sb->label, sizeof(sb->label));
}

/* ---- the attach lock --------------------------------------------------------------------------- */

int region_lock(struct shmfs *fs)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };

    if (!region_fd_ok(fs))
        return -EIO;
    if (fs->private_)
        fl.l_type = F_RDLCK; /* all that a descriptor opened for reading may ask for */
    for (int tries = 0; tries < 5000; tries++) {
        if (fcntl(fs->fd, F_OFD_SETLK, &fl) == 0)
            return 0;
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
        nap_us(1000);
    }
    return -EBUSY;
}

void region_unlock(struct shmfs *fs)
{
    struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };

    if (region_fd_ok(fs))
        fcntl(fs->fd, F_OFD_SETLK, &fl);
}

bool region_fd_ok(const struct shmfs *fs)
{
    struct stat st;

    return fstat(fs->fd, &st) == 0 && st.st_dev == fs->dev && st.st_ino == fs->ino;
}

/* ---- the host's memory ------------------------------------------------------------------------- */

int region_reserve(struct shmfs *fs, uint64_t off, uint64_t len)
{
    UNCANCELLED;

    if (fs->private_)
        return 0;
    if (fs->base != NULL && !region_fd_ok(fs))
        return -EIO;
    for (;;) {
        if (fallocate(fs->fd, FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0) {
            region_mend(fs); /* it is about to be used */
            return 0;
        }
        if (errno == EINTR)
            continue;
        /* A filesystem without fallocate: holes are filled on the first store, as best it can. */
        if (errno == EOPNOTSUPP)
            return 0;
        return errno == ENOMEM || errno == EDQUOT || errno == EFBIG ? -ENOSPC : -errno;
    }
}

void region_punch(struct shmfs *fs, uint64_t off, uint64_t len)
{
    UNCANCELLED;

    if (!fs->private_ && region_fd_ok(fs))
        (void)!fallocate(fs->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
}

int region_identity(struct shmfs *fs, struct runtime_id *ret)
{
    struct runtime_id id = { 0 };

    AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, id.boot_id, 36) != 36)
        return -ENOSYS; /* no /proc: nothing can be known of other processes */
    id.dev = fs->dev;
    id.ino = fs->ino;
    *ret = id;
    return 0;
}
