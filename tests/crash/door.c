/* SPDX-License-Identifier: MIT */
/* Recovery as programs come by it: by attaching, to themselves alone and with others. */
#include <stdio.h>

#include "modes.h"
#include "wraps.h"

static char path[64], guest_path[64];

static void paths_make(void)
{
    snprintf(path, sizeof(path), "/dev/shm/shmfs-crash-%d-door", (int)getpid());
    snprintf(guest_path, sizeof(guest_path), "/dev/shm/shmfs-crash-%d-guest", (int)getpid());
}

static void door_try(unsigned flags, const char *how)
{
    struct level door = { .number = 1 };
    struct shmfs_diag diag;
    char text[256];
    int r = shmfs_region_attach(path, flags, &door.seats[0].fs, &diag);

    exam.ticks++;
    exam.states++;
    if (r < 0) {
        exam_fail(&levels[0], shmfs_diag_text(&diag, r, how, text, sizeof(text)), NULL, 0);
        return;
    }
    const char *what = exam_verdict(&door, exam.late, exam.nlate);
    if (what[0] != 0)
        exam_fail(&levels[0], what, exam.late, exam.nlate);
    shmfs_region_detach(door.seats[0].fs);
}

static void door_try_all(void)
{
    door_try(SHMFS_ATTACH_PRIVATE, "attaching privately");
    door_try(0, "attaching");
    door_try(0, "attaching again");
}

static void no_torn(struct seat *seat, uint8_t *at, size_t n, const uint8_t *old, const void *pc)
{
}

static void run_armed(const char *op)
{
    levels[0].torn = no_torn;
    levels[0].seats[0].watch.armed = true;
    script_run(levels[0].seats[0].fs, op, true);
    levels[0].seats[0].watch.armed = false;
}

/* ---- by the front door --------------------------------------------------------------------------- */

static void door_store(struct seat *seat, const uint8_t *at, size_t n, const void *pc)
{
    if (!exam_count(seat, at, pc))
        return;
    level_write(seat->fs, true, path);
    door_try_all();
}

static void door_one(const struct crash_case *c, const char *op, long result)
{
    exam_begin("door", c->name, op);
    levels[0].store = door_store;
    run_armed(op);
}

void mode_door(void)
{
    paths_make();
    exam.every[0] = want.all ? 5 : 150;
    exam.every[1] = 0;
    levels_open(REGION_SIZE, REGION_INODES, 0);
    modes_each(door_one);
    levels_close();
    unlink(path);
}

/* ---- death on the threshold ---------------------------------------------------------------------- */

static struct {
    struct watch watch;
    struct shmfs *fs;
    struct runtime_id id; /* of the file when it came */
    uint32_t every;
} guest;

static void guest_dirty(struct watch *w, const uint8_t *at, size_t n)
{
}

static void guest_store(struct watch *w, const uint8_t *at, size_t n, const void *pc)
{
    exam.store[1]++;
    exam.pc[1] = pc;
    exam.at[1] = level_fs(&levels[1])->base + (at - w->base);
    if (exam.only[1] != 0 ? exam.store[1] != exam.only[1]
                          : exam_chance(exam.store[1], exam.salt + exam.store[0]) % guest.every != 0)
        return;
    w->armed = false;
    wraps_attach = NULL;
    level_write(guest.fs, memcmp(&guest.fs->rt->id, &guest.id, sizeof(guest.id)) == 0, path);
    door_try_all();
    w->armed = true;
}

static void guest_torn(struct watch *w, uint8_t *at, size_t n, const uint8_t *old, const void *pc)
{
}

static void guest_comes(struct shmfs *fs)
{
    guest.fs = fs;
    guest.watch = (struct watch){ .base = fs->base,
                                  .len = fs->map_len,
                                  .armed = true,
                                  .dirty = guest_dirty,
                                  .store = guest_store,
                                  .torn = guest_torn };
    hooks_watch(&guest.watch);
    exam.store[1] = 0;
    wraps_attach = NULL;
}

/* Somebody attaches to the file at guest_path, and detaches, and dies at each store of it. */
static void guest_visit(uint32_t every, const struct runtime_id *id)
{
    struct shmfs_diag diag;
    struct shmfs *fs;
    char text[256];

    guest.every = every;
    guest.id = *id;
    wraps_attach = guest_comes;
    int r = shmfs_region_attach(guest_path, 0, &fs, &diag);
    if (r < 0) {
        hooks_unwatch(&guest.watch);
        exam_fail(&levels[0], shmfs_diag_text(&diag, r, "attaching", text, sizeof(text)), NULL, 0);
        return;
    }
    shmfs_region_detach(fs);
    hooks_unwatch(&guest.watch);
    exam.store[1] = 0;
}

static void file_id(struct runtime_id *ret)
{
    struct shmfs_diag diag;
    struct shmfs *fs;

    if (region_open(guest_path, 0, &fs, &diag) < 0 || region_identity(fs, ret) < 0)
        abort();
    region_close(fs);
}

static void attach_store(struct seat *seat, const uint8_t *at, size_t n, const void *pc)
{
    struct runtime_id id;

    if (!exam_count(seat, at, pc))
        return;
    level_write(seat->fs, true, guest_path);
    file_id(&id);
    guest_visit(want.all ? 1 : 20, &id);
}

static void attach_one(const struct crash_case *c, const char *op, long result)
{
    exam_begin("attach", c->name, op);
    levels[0].store = attach_store;
    run_armed(op);
}

/* The first to attach makes the runtime area; the region bears no mark of any file before. */
static void attach_first(void)
{
    struct runtime_id id;
    struct shmfs *fs = levels[0].seats[0].fs;
    static struct view view;

    image_fresh();
    view_take(fs, false, &view);
    exam.late[0] = (struct allowed){ &view, "before" };
    exam.nlate = 1;
    exam_begin("attach", "first", "");
    level_write(fs, false, guest_path);
    struct shmfs_diag diag;
    struct shmfs *plain;
    if (region_open(guest_path, 0, &plain, &diag) < 0)
        abort();
    plain->sb->clean = 1;
    region_close(plain);
    file_id(&id);
    guest_visit(want.all ? 1 : 3, &id);
}

void mode_attach(void)
{
    paths_make();
    exam.every[0] = want.all ? 97 : 1500;
    exam.every[1] = 0;
    levels_open(REGION_SIZE, REGION_INODES, 0);
    attach_first();
    modes_each(attach_one);
    levels_close();
    unlink(path);
    unlink(guest_path);
}
