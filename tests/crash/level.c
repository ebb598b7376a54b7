/* SPDX-License-Identifier: MIT */
#include "level.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client.h"

#define MUST(x) \
    do { \
        long long must_ = (long long)(x); \
        if (must_ < 0) { \
            fprintf(stderr, "%s:%d: %s gave %lld\n", __FILE__, __LINE__, #x, must_); \
            abort(); \
        } \
    } while (0)

struct level levels[LEVELS];

static uint8_t *fresh, *before; /* images below level 0: as made; before the operation */
static uint8_t *is_used;        /* a page: differs from `fresh` */
static uint32_t *used, nused;
static void *heir_life; /* of the heir, on level 0 */

/* Few slots and processes: the time of a state is spent in looking at all that there is. */
int __real_layout_plan(uint64_t max_size, uint64_t inodes, struct layout *ret);
int __wrap_layout_plan(uint64_t max_size, uint64_t inodes, struct layout *ret);
int __wrap_layout_plan(uint64_t max_size, uint64_t inodes, struct layout *ret)
{
    int r = __real_layout_plan(max_size, inodes, ret);

    ret->nslots = ROLES;
    ret->nprocs = ROLES + 8;
    return r < 0 ? r : layout_compute(ret);
}

/* ---- pages --------------------------------------------------------------------------------------- */

static void mark(struct level *l, uint32_t page)
{
    if (l->is_stale[page])
        return;
    l->is_stale[page] = 1;
    l->stale[l->nstale++] = page;
}

static void mark_changed(struct level *l, uint32_t page)
{
    mark(l, page);
    if (l->number == 0 && !is_used[page]) {
        is_used[page] = 1;
        used[nused++] = page;
    }
    if (l->number + 1 < LEVELS)
        mark(&levels[l->number + 1], page);
}

void level_changed(struct level *l, const void *at, size_t n)
{
    size_t off = (size_t)((const uint8_t *)at - level_fs(l)->base);

    for (size_t page = off / BLOCK_SIZE; page <= (off + n - 1) / BLOCK_SIZE; page++)
        mark_changed(l, (uint32_t)page);
}

static void page_copy(uint8_t *to, const uint8_t *from, uint32_t page)
{
    hooks_copy(to + (size_t)page * BLOCK_SIZE, from + (size_t)page * BLOCK_SIZE, BLOCK_SIZE);
}

static void seat_dirty(struct watch *w, const uint8_t *at, size_t n)
{
    struct seat *seat = (struct seat *)w;
    size_t off = (size_t)(at - seat->fs->base);

    for (size_t page = off / BLOCK_SIZE; page <= (off + n - 1) / BLOCK_SIZE; page++)
        mark_changed(seat->level, (uint32_t)page);
}

static void seat_store(struct watch *w, const uint8_t *at, size_t n, const void *pc)
{
    struct seat *seat = (struct seat *)w;

    seat->level->store(seat, at, n, pc);
}

static void seat_torn(struct watch *w, uint8_t *at, size_t n, const uint8_t *old, const void *pc)
{
    struct seat *seat = (struct seat *)w;

    seat->level->torn(seat, at, n, old, pc);
}

/* ---- seats --------------------------------------------------------------------------------------- */

/* As programs come: the commands of script_use.c are theirs. */
static void attach_plain(const char *path, struct shmfs **ret)
{
    if (shmfs_attach(path, 0, ret) < 0) {
        fprintf(stderr, "%s\n", shmfs_attach_error());
        abort();
    }
}

/* A child of ours is not to look for it. Its memory is left: of few levels, and most of it is the library's to know. */
static void client_forget(struct shmfs *fs)
{
    client_list_lock();
    client_list_remove(fs);
    client_list_unlock();
}

/* Others take the entries below the role's for a moment, so that it gets the one that is meant for it. */
static void seat_attach(struct seat *seat, struct level *l, uint32_t role, const struct layout *layout)
{
    struct shmfs *others[ROLES];
    uint32_t n = 0;

    for (;;) {
        attach_plain(l->path, &seat->fs);
        if (proc_index(seat->fs->self) >= role || n == ROLES)
            break;
        others[n++] = seat->fs;
    }
    while (n > 0)
        shmfs_detach(others[--n]);
    seat->slot = 0;
    while (seat->slot < layout->nslots && LOAD(&seat->fs->slots[seat->slot].owner.v) != seat->fs->self.v)
        seat->slot++;
    if (proc_index(seat->fs->self) != role || seat->slot == layout->nslots) {
        fprintf(stderr, "a seat came to be where it should not\n");
        abort();
    }
    seat->level = l;
    seat->role = role;
    seat->entry = seat->fs->procs[role];
    hooks_copy(&seat->head, &seat->fs->slots[seat->slot], SLOT_HEAD);
    seat->watch = (struct watch){ .base = seat->fs->base,
                                  .len = seat->fs->map_len,
                                  .dirty = seat_dirty,
                                  .store = seat_store,
                                  .torn = seat_torn };
    hooks_watch(&seat->watch);
}

/* Slots that it claimed in a state that is gone are not its own. */
static void pool_back(struct seat *seat)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < seat->fs->nfree_slots; i++) {
        if (seat->fs->free_slots[i] == seat->slot)
            seat->fs->free_slots[n++] = seat->slot;
    }
    seat->fs->nfree_slots = n;
}

/* What of a level is its own: whose file it is, and who sits there. */
static void seats_patch(struct level *l)
{
    struct shmfs *fs = level_fs(l);

    fs->rt->id = l->id;
    for (uint32_t i = 0; i < l->nseats; i++) {
        struct seat *seat = &l->seats[i];

        pool_back(seat);
        fs->procs[seat->role] = seat->entry;
        hooks_copy(&fs->slots[seat->slot], &seat->head, SLOT_HEAD);
        level_changed(l, &fs->slots[seat->slot], SLOT_HEAD);
    }
    level_changed(l, fs->rt, sizeof(*fs->rt));
    level_changed(l, fs->procs, ROLES * sizeof(struct proc_entry));
}

void seat_die(struct seat *seat)
{
    if (!seat->stood)
        munmap(seat->fs->life, BLOCK_SIZE);
    seat->fs->life = NULL;
    seat->stood = true;
}

/* As proc.c does it. */
static void *life_take(const struct shmfs *fs, uint32_t entry)
{
    struct flock fl = { .l_type = F_WRLCK,
                        .l_whence = SEEK_SET,
                        .l_len = 1,
                        .l_start = (off_t)(fs->l.procs + entry * sizeof(struct proc_entry)) };
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fs->fd);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    MUST(fd);
    MUST(fcntl(fd, F_OFD_SETLK, &fl));
    void *life = mmap(NULL, BLOCK_SIZE, PROT_NONE, MAP_SHARED, fd, 0);
    if (life == MAP_FAILED)
        abort();
    return life;
}

void seat_rise(struct seat *seat)
{
    if (seat->stood)
        seat->fs->life = life_take(seat->fs, seat->role);
    seat->stood = false;
}

/* ---- levels -------------------------------------------------------------------------------------- */

/* Names lie in the same buckets each time, and on all levels. */
static void fix_seed(const char *path, struct layout *ret)
{
    struct superblock sb;
    struct shmfs_diag diag;
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);

    MUST(fd);
    MUST(pread(fd, &sb, sizeof(sb), 0));
    memset(sb.uuid, 1, sizeof(sb.uuid));
    sb.hash_seed = 42;
    sb.made = 1;
    sb.checksum = layout_checksum(&sb);
    MUST(pwrite(fd, &sb, sizeof(sb), 0));
    MUST(fstat(fd, &st));
    MUST(region_check(&sb, (uint64_t)st.st_size, ret, &diag));
}

static void level_open(struct level *l, uint32_t number, uint64_t size, uint32_t inodes, uint32_t shift)
{
    static const uint32_t roles[LEVELS][SEATS_MAX] = { { ROLE_A, ROLE_B, ROLE_C },
                                                       { ROLE_HEIR },
                                                       { ROLE_LAST } };
    struct shmfs_make make = {
        .size = size, .max_size = size, .inodes = inodes, .mode = 0600, .root_mode = 0755, .force = true
    };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag;
    struct layout layout;
    struct shmfs *fs;

    l->number = number;
    snprintf(l->path, sizeof(l->path), "/dev/shm/shmfs-crash-%d-%u", (int)getpid(), number);
    make.uuid[0] = 1;
    MUST(shmfs_region_make(l->path, &make, &geometry, &diag));
    fix_seed(l->path, &layout);
    attach_plain(l->path, &fs); /* makes the runtime area */
    shmfs_detach(fs);
    l->nseats = number == 0 ? 3 : 1;
    l->npages = (uint32_t)(layout.end / BLOCK_SIZE);
    l->is_stale = calloc(l->npages, 1);
    l->stale = calloc(l->npages, sizeof(uint32_t));
    if (l->is_stale == NULL || l->stale == NULL)
        abort();
    for (uint32_t i = 0; i < l->nseats; i++)
        seat_attach(&l->seats[i], l, roles[number][i] + (roles[number][i] != ROLE_A ? shift : 0), &layout);
    unlink(l->path);
    l->id = level_fs(l)->rt->id;
}

void levels_open(uint64_t size, uint32_t inodes, uint32_t shift)
{
    for (uint32_t i = 0; i < LEVELS; i++)
        level_open(&levels[i], i, size, inodes, shift);
    /* The heir may have opened files before A died. */
    level_fs(&levels[0])->procs[levels[1].seats[0].role] = levels[1].seats[0].entry;
    heir_life = life_take(level_fs(&levels[0]), levels[1].seats[0].role);
    size_t len = (size_t)levels[0].npages * BLOCK_SIZE;
    fresh = malloc(len);
    before = malloc(len);
    is_used = calloc(levels[0].npages, 1);
    used = calloc(levels[0].npages, sizeof(*used));
    if (fresh == NULL || before == NULL || is_used == NULL || used == NULL)
        abort();
    nused = 0;
    hooks_copy(fresh, level_fs(&levels[0])->base, len);
    hooks_copy(before, fresh, len);
    for (uint32_t i = 1; i < LEVELS; i++)
        for (uint32_t page = 0; page < levels[i].npages; page++)
            mark(&levels[i], page);
}

void levels_close(void)
{
    munmap(heir_life, BLOCK_SIZE);
    for (uint32_t i = 0; i < LEVELS; i++) {
        struct level *l = &levels[i];

        for (uint32_t k = 0; k < l->nseats; k++) {
            hooks_unwatch(&l->seats[k].watch);
            seat_die(&l->seats[k]);
            client_forget(l->seats[k].fs);
            txn_detach(l->seats[k].fs);
            region_close(l->seats[k].fs);
        }
        free(l->is_stale);
        free(l->stale);
        *l = (struct level){ 0 };
    }
    free(fresh);
    free(before);
    free(is_used);
    free(used);
}

void level_sync(struct level *l)
{
    const uint8_t *from = l->number == 0 ? before : level_fs(&levels[l->number - 1])->base;
    uint8_t *to = level_fs(l)->base;

    for (uint32_t i = 0; i < l->nstale; i++) {
        uint32_t page = l->stale[i];

        page_copy(to, from, page);
        l->is_stale[page] = 0;
        if (l->number + 1 < LEVELS)
            mark(&levels[l->number + 1], page);
    }
    l->nstale = 0;
    if (l->number > 0)
        seats_patch(l);
}

/* ---- images -------------------------------------------------------------------------------------- */

void image_fresh(void)
{
    struct level *l = &levels[0];

    for (uint32_t i = 0; i < nused; i++) {
        page_copy(before, fresh, used[i]);
        mark(l, used[i]);
        is_used[used[i]] = 0;
    }
    nused = 0;
    image_back();
}

void image_take(void)
{
    struct level *l = &levels[0];

    for (uint32_t i = 0; i < l->nstale; i++) {
        page_copy(before, level_fs(l)->base, l->stale[i]);
        l->is_stale[l->stale[i]] = 0;
    }
    l->nstale = 0;
}

void image_back(void)
{
    level_sync(&levels[0]);
    for (uint32_t i = 0; i < levels[0].nseats; i++) {
        seat_rise(&levels[0].seats[i]);
        pool_back(&levels[0].seats[i]);
    }
}

const void *image_at(const void *at)
{
    return before + ((const uint8_t *)at - level_fs(&levels[0])->base);
}

void level_write(const struct shmfs *fs, bool made, const char *path)
{
    static const uint8_t zeros[BLOCK_SIZE];
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct runtime_id id = fs->rt->id;
    struct stat st;

    MUST(fd);
    MUST(ftruncate(fd, (off_t)fs->l.end));
    MUST(fstat(fd, &st));
    for (uint64_t at = 0; at < fs->l.end; at += BLOCK_SIZE) {
        if (memcmp(fs->base + at, zeros, BLOCK_SIZE) != 0)
            MUST(pwrite(fd, fs->base + at, BLOCK_SIZE, (off_t)at));
    }
    id.dev = st.st_dev;
    id.ino = st.st_ino;
    if (made)
        MUST(pwrite(fd, &id, sizeof(id), (off_t)fs->l.runtime));
}
