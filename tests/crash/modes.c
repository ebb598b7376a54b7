/* SPDX-License-Identifier: MIT */
#include "modes.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

struct modes_want want;
const struct seat *modes_other = &levels[1].seats[0];

static struct view before, after, step, late_before, late_after, late_step;

double modes_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- one operation ------------------------------------------------------------------------------- */

static void part_read(struct shmfs *fs, uint32_t ino, uint8_t *buf, size_t *ret_size)
{
    ssize_t n = file_read(fs, ino, buf, PREFIX_MAX, 0);

    *ret_size = n < 0 ? 0 : (size_t)n;
}

/* The file that an operation writes to: its first path, or of a copy its second. */
static uint32_t part_ino(struct shmfs *fs, const char *op)
{
    char copy[OP_MAX], *save = NULL;

    snprintf(copy, sizeof(copy), "%s", op);
    bool is_copy = strncmp(copy, "copy", 4) == 0;
    const char *path = strtok_r(copy, " ", &save);
    if (path != NULL && path[0] >= 'A' && path[0] <= 'Z') /* the error that it ends with */
        path = strtok_r(NULL, " ", &save);
    for (int i = 0; i < (is_copy ? 3 : 1) && path != NULL; i++)
        path = strtok_r(NULL, " ", &save);
    return path == NULL ? 0 : script_ino(fs, path);
}

static void allow(const struct view *view, const struct view *late, const char *name)
{
    exam.allowed[exam.nallowed++] = (struct allowed){ view, name };
    exam.late[exam.nlate++] = (struct allowed){ late, name };
}

/* What is to be found if A dies before, after, or between; of what A alone used nothing is left then. */
static void foresee(const struct crash_case *c, const char *op)
{
    struct shmfs *fs = levels[0].seats[0].fs;

    exam.nallowed = exam.nlate = 0;
    exam_foresee(NULL, false, &before, &late_before);
    allow(&before, &late_before, "before");
    script_run(fs, op, true);
    exam_foresee(NULL, false, &after, &late_after);
    allow(&after, &late_after, "after");
    image_back();
    if (c->judge == JUDGE_STEPS) {
        script_run(fs, c->step, false);
        exam_foresee(NULL, false, &step, &late_step);
        allow(&step, &late_step, "between");
        image_back();
    }
}

/* Runs the operation to know the states before and after. False: it does not do what it says. */
bool modes_rehearse(const struct crash_case *c, const char *op, long *ret_result)
{
    static struct view alive, was;
    struct shmfs *fs = levels[0].seats[0].fs;
    struct allowed lives = { &alive, "after" };
    bool part = c->judge == JUDGE_PREFIX || c->judge == JUDGE_BLOCKS;

    exam.judge = JUDGE_WHOLE;
    view_take(fs, false, &was);
    if (part) {
        exam.part.ino = part_ino(fs, op);
        exam.part.index = view_index(&was, exam.part.ino);
        part_read(fs, exam.part.ino, exam.part.before, &exam.part.before_size);
    }
    struct script_result r = script_run(fs, op, false);
    if (part)
        part_read(fs, exam.part.ino, exam.part.after, &exam.part.after_size);
    view_take(fs, false, &alive);
    *ret_result = r.result;
    const char *what = exam_verdict(&levels[0], &lives, 1);
    if (what[0] == 0 && r.result < 0 && !view_same(&was, &alive, VIEW_ALL)) {
        what = "it failed, and changed something";
        view_diff(&was, &alive, "before");
    }
    image_back();
    exam.judge = c->judge;
    foresee(c, op);
    if (r.failed[0] != 0 || what[0] != 0) {
        fprintf(stderr, "FAIL %s: '%s', with nobody dying: %s (result %ld)\n", c->name, op,
                r.failed[0] != 0 ? "does not end as it should" : what, r.result);
        exam.failures++;
    }
    return r.failed[0] == 0;
}

/* Copies the next command to buf, with K for each %d; returns what follows it. */
const char *modes_next_op(const char *ops, int k, char *buf)
{
    size_t n = 0;

    while (*ops == ' ' || *ops == ';')
        ops++;
    for (; *ops != 0 && *ops != ';' && n < OP_MAX - 12; ops++) {
        if (ops[0] == '%' && ops[1] == 'd') {
            n += (size_t)snprintf(buf + n, 12, "%d", k);
            ops++;
        } else {
            buf[n++] = *ops;
        }
    }
    buf[n] = 0;
    return ops;
}

bool modes_setup(const char *name, const char *text)
{
    image_fresh();
    script_other = modes_other->fs->self;
    struct script_result r = script_run(levels[0].seats[0].fs, text, false);
    if (r.failed[0] != 0) {
        fprintf(stderr, "FAIL %s: setup: '%s' gave %ld\n", name, r.failed, r.result);
        exam.failures++;
        return false;
    }
    image_take();
    return true;
}

/* Where modes_each() is: the case, and how many of its operations were done. */
static struct {
    const struct crash_case *c;
    uint32_t done;
} at;

/* Does the case's first `count` operations; the next one is in op. */
static void replay(uint32_t count, char *op)
{
    const char *ops = "";
    int k = -1;

    for (uint32_t i = 0; i <= count; i++) {
        ops = modes_next_op(ops, k, op);
        if (op[0] == 0)
            ops = modes_next_op(at.c->ops, ++k, op);
        if (i < count)
            script_run(levels[0].seats[0].fs, op, true);
    }
    image_take();
}

void modes_rebuild(void)
{
    char op[OP_MAX];

    levels_close();
    levels_open(REGION_SIZE, REGION_INODES, 0);
    modes_setup(at.c->name, at.c->setup);
    replay(at.done, op);
}

static void case_each(const struct crash_case *c,
                      void (*one)(const struct crash_case *c, const char *op, long result))
{
    char op[OP_MAX];
    long result;

    if (!modes_setup(c->name, c->setup))
        return;
    at.c = c;
    at.done = 0;
    for (int k = 0; k < MAX(c->repeat, 1); k++) {
        for (const char *ops = modes_next_op(c->ops, k, op); op[0] != 0; ops = modes_next_op(ops, k, op)) {
            if (modes_rehearse(c, op, &result) && (want.op == NULL || strcmp(want.op, op) == 0)) {
                one(c, op, result);
                image_back();
            }
            script_run(levels[0].seats[0].fs, op, true);
            image_take();
            at.done++;
        }
    }
}

void modes_each(void (*one)(const struct crash_case *c, const char *op, long result))
{
    for (size_t i = 0; i < ncases; i++) {
        const struct crash_case *c = &cases[i];
        uint64_t states = exam.states, failures = exam.failures;
        double from = modes_clock();

        if (want.name != NULL && strcmp(want.name, c->name) != 0)
            continue;
        case_each(c, one);
        if (exam.states > states || exam.failures > failures)
            printf("  %-26s %8" PRIu64 " states  %6.0f/s%s\n", c->name, exam.states - states,
                   (double)(exam.states - states) / (modes_clock() - from),
                   exam.failures > failures ? "  FAILED" : "");
    }
}

/* ---- death at every store ------------------------------------------------------------------------ */

static void store_one(const struct crash_case *c, const char *op, long result)
{
    exam_begin(want.mode, c->name, op);
    struct script_result r = exam_run(&levels[0].seats[0], op);
    if (r.result != result) {
        fprintf(stderr, "FAIL %s: '%s': ended with %ld, then with %ld\n", c->name, op, result, r.result);
        exam.failures++;
    }
}

void mode_store(void)
{
    exam.every[0] = 1;
    exam.every[1] = 0;
    levels_open(REGION_SIZE, REGION_INODES, 0);
    modes_each(store_one);
    levels_close();
}

void mode_undertaker(void)
{
    exam.every[0] = want.all ? 1 : 30;
    exam.every[1] = want.all ? 4 : 20;
    levels_open(REGION_SIZE, REGION_INODES, 0);
    modes_each(store_one);
    levels_close();
    exam.every[1] = 0;
}
