/* SPDX-License-Identifier: MIT */
/*
 * P4: the power is cut at every step of an image's life, and what is left is always one of its commits, and not one
 * before the last that somebody was told of. Then each sync is left out in turn, and each time that must be seen.
 *
 *   power [SEED]
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image.h"
#include "power_disk.h"

enum { USED = 64, STRIDE = 19, PAGES = USED * STRIDE, STATES = 64 }; /* the others stay holes */

static uint64_t content[STATES][PAGES]; /* seed of each page; 0: a hole */
static unsigned last;                   /* state; 0: no image yet */
static uint64_t random_state;
static const char *why = "";

static uint64_t draw(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void fill(uint64_t seed, uint64_t *page)
{
    for (unsigned i = 0; i < IMAGE_PAGE / 8; i++)
        page[i] = seed * (i + 1);
}

/* ---- the life of an image ----------------------------------------------------------------------- */

static void must(int r, const char *what)
{
    if (r < 0)
        errx(1, "%s: %s", what, strerror(-r));
}

static void put(struct image *img, uint64_t *state, uint64_t page, uint64_t seed)
{
    uint64_t data[IMAGE_PAGE / 8];

    fill(seed, data);
    must(image_put(img, page, seed ? data : NULL), "image_put");
    state[page] = seed;
}

/* In any order, some twice, some to holes. */
static void change(struct image *img, uint64_t *state, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put(img, state, draw() % USED * STRIDE, draw() % 8 ? draw() | 1 : 0);
}

static uint64_t *next_state(void)
{
    if (last + 1 == STATES)
        errx(1, "too many states");
    memcpy(content[last + 1], content[last], sizeof(content[0]));
    return content[last + 1];
}

static void committed(struct image *img)
{
    must(image_commit(img), "image_commit");
    disk_told(++last);
}

static void commits(struct image *img, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        change(img, next_state(), i == n / 2 ? 400 : 1 + (unsigned)(draw() % 5));
        if (draw() % 4 == 0) {
            image_abort(img);
            change(img, next_state(), 3);
        }
        committed(img);
        if (i % 4 == 3)
            must(image_settle(img), "image_settle");
    }
}

static void closed(struct image *img)
{
    disk_needless(true);
    image_close(img);
    disk_needless(false);
}

/* All that the state before has, and some changes. */
static void fresh(const char *path)
{
    struct image *img;
    uint64_t *state;

    disk_new_file();
    must(image_create(path, PAGES, &img), "image_create");
    state = next_state();
    for (uint64_t page = 0; page < PAGES; page += STRIDE)
        put(img, state, page, last ? state[page] : draw() % 4 ? draw() | 1 : 0);
    change(img, state, 20);
    committed(img);
    commits(img, 2);
    closed(img);
}

static void again(const char *path, unsigned n)
{
    struct image_diag diag;
    struct image *img;

    must(image_open(path, IMAGE_WRITE, &img, &diag), "image_open");
    commits(img, n);
    closed(img);
}

static void live(const char *path)
{
    disk_record();
    fresh(path);
    again(path, 7);
    again(path, 3);
    fresh(path);
    again(path, 5);
    disk_end();
}

/* ---- what a cut left ---------------------------------------------------------------------------- */

static bool is_state(struct image *img, const uint64_t *state)
{
    uint64_t is[IMAGE_PAGE / 8], should[IMAGE_PAGE / 8];

    for (uint64_t page = 0; page < PAGES; page++) {
        if (image_is_hole(img, page) && state[page] == 0)
            continue;
        fill(state[page], should);
        if (image_read(img, page, is) < 0 || memcmp(is, should, sizeof(is)) != 0)
            return false;
    }
    return true;
}

static int check(const char *path, unsigned told)
{
    struct image_diag diag;
    struct image *img;
    bool found = false;
    int r;

    why = "nothing is there, though something was told";
    if (!path)
        return told > 0;
    why = "it does not open";
    r = image_open(path, IMAGE_READ, &img, &diag);
    if (r < 0)
        return r;
    why = "it is no state, or one before the last that was told";
    for (unsigned i = told ? told : 1; i <= told + 1 && i <= last && !found; i++)
        found = is_state(img, content[i]);
    image_close(img);
    return !found;
}

int main(int argc, char **argv)
{
    char dir[] = "/dev/shm/shmfs-power.XXXXXX", path[64];
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1, states, mutants = 0, all = 0;
    int bad, steps;

    if (!mkdtemp(dir))
        err(1, "%s", dir);
    snprintf(path, sizeof(path), "%s/image", dir);
    random_state = seed * 0x9e3779b97f4a7c15 | 1;
    live(path);
    steps = disk_steps();
    bad = disk_cuts(path, NO_STEP, seed, check, &states);
    printf("seed %ju: %d steps, %u commits, %ju states after a power cut: %s\n", (uintmax_t)seed, steps, last,
           (uintmax_t)states, bad ? why : "all whole");
    for (int i = 0; i < steps && !bad; i++) {
        if (!disk_is_needed(i))
            continue;
        mutants++;
        if (!disk_cuts(path, i, seed, check, &states)) {
            printf("seed %ju: without the sync of step %d nothing is seen\n", (uintmax_t)seed, i);
            bad = 1;
        }
        all += states;
    }
    if (!bad)
        printf("each of %ju syncs left out: seen (%ju states)\n", (uintmax_t)mutants, (uintmax_t)all);
    rmdir(dir);
    return bad;
}
