/* SPDX-License-Identifier: MIT */
#include "exam.h"

#include <inttypes.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <xxhash.h>

#include "mutant.h"

struct exam exam;

static struct view found;
static char problem[400];

/* ---- where --------------------------------------------------------------------------------------- */

static int load_address(struct dl_phdr_info *info, size_t size, void *arg)
{
    *(uintptr_t *)arg = info->dlpi_addr; /* the program itself comes first */
    return 1;
}

static const char *area_name(const struct level *l, const uint8_t *at, char *buf, size_t n)
{
    const struct layout *o = &l->seats[0].fs->l;
    uint64_t off = (uint64_t)(at - l->seats[0].fs->base);

    if (off >= o->end)
        snprintf(buf, n, "?");
    else if (off >= o->blocks)
        snprintf(buf, n, "block %" PRIu64 " byte %" PRIu64, (off - o->blocks) / BLOCK_SIZE, off % BLOCK_SIZE);
    else if (off >= o->inodes)
        snprintf(buf, n, "inode %" PRIu64 " byte %" PRIu64, (off - o->inodes) / INODE_SIZE,
                 (off - o->inodes) % INODE_SIZE);
    else if (off >= o->group_desc)
        snprintf(buf, n, "group descriptors and maps, byte %" PRIu64, off - o->group_desc);
    else if (off >= o->group_rt)
        snprintf(buf, n, "runtime record of group %" PRIu64, (off - o->group_rt) / sizeof(struct group_rt));
    else if (off >= o->inode_rt)
        snprintf(buf, n, "runtime record of inode %" PRIu64 " byte %" PRIu64,
                 (off - o->inode_rt) / sizeof(struct inode_rt),
                 (off - o->inode_rt) % sizeof(struct inode_rt));
    else if (off >= o->ranges)
        snprintf(buf, n, "byte-range lock %" PRIu64, (off - o->ranges) / sizeof(struct range));
    else if (off >= o->uses)
        snprintf(buf, n, "bucket %" PRIu64 " of use records", (off - o->uses) / sizeof(struct use_bucket));
    else if (off >= o->slots)
        snprintf(buf, n, "slot %" PRIu64 " byte %" PRIu64, (off - o->slots) / SLOT_SIZE,
                 (off - o->slots) % SLOT_SIZE);
    else
        snprintf(buf, n, "superblock, runtime header or process table, byte %" PRIu64, off);
    return buf;
}

void exam_print_pc(const void *pc)
{
    uintptr_t base = 0;
    char exe[256] = "", command[512], line[256];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    dl_iterate_phdr(load_address, &base);
    uintptr_t off = (uintptr_t)pc - base - 1;
    fprintf(stderr, "      at +%#zx", (size_t)off);
    snprintf(command, sizeof(command), "addr2line -sfie '%.*s' %#zx 2>/dev/null", (int)MAX(n, 0), exe,
             (size_t)off);
    FILE *f = popen(command, "r");
    for (int i = 0; f != NULL && i < 6 && fgets(line, sizeof(line), f) != NULL; i++) {
        line[strcspn(line, "\n")] = 0;
        fprintf(stderr, i % 2 == 0 ? " %s" : " (%s)", line);
    }
    if (f != NULL)
        pclose(f);
    fprintf(stderr, "\n");
}

void exam_print_place(void)
{
    char area[100];

    fprintf(stderr, "  %s: %s: '%s'", exam.mode, exam.name, exam.op);
    if (exam.heir != NULL)
        fprintf(stderr, ", then '%s'", exam.heir);
    fprintf(stderr, "\n");
    for (uint32_t i = 0; i < LEVELS && exam.store[i] != 0; i++) {
        fprintf(stderr, "    death %u: before store %" PRIu64 ", to %s\n", i + 1, exam.store[i],
                exam.pc[i] == NULL ? "nothing: all is done"
                                   : area_name(&levels[i], exam.at[i], area, sizeof(area)));
        if (exam.pc[i] != NULL)
            exam_print_pc(exam.pc[i]);
    }
    fprintf(stderr, "    again: every_store --seed %" PRIu64 " --mode %s --case '%s' --op '%s'", exam.seed,
            exam.mode, exam.name, exam.op);
    if (exam.heir != NULL)
        fprintf(stderr, " --heir '%s'", exam.heir);
    fprintf(stderr, " --store %" PRIu64, exam.store[0]);
    if (exam.store[1] != 0)
        fprintf(stderr, " --second %" PRIu64, exam.store[1]);
    fprintf(stderr, "\n");
}

void exam_fail(struct level *l, const char *what, const struct allowed *allowed, uint32_t n)
{
    exam.failures += !exam.quiet;
    if (exam.failed_here++ >= 2 || exam.quiet)
        return;
    fprintf(stderr, "FAIL %s\n", what);
    exam_print_place();
    for (uint32_t i = 0; i < n; i++)
        view_diff(allowed[i].view, &found, allowed[i].name);
}

/* ---- crashes and hangs --------------------------------------------------------------------------- */

enum { HANG_SECONDS = 10 };

static void (*escape)(const char *what);

static void on_signal(int number)
{
    static uint64_t seen;
    static int idle;

    if (number == SIGALRM) {
        idle = seen == exam.ticks ? idle + 1 : 0;
        seen = exam.ticks;
        if (idle < HANG_SECONDS)
            return;
        idle = 0;
    }
    const char *what = number == SIGALRM ? "a hang" : number == SIGABRT ? "an assertion failed" : "a crash";
    if (escape != NULL)
        escape(what);
    if (number != SIGALRM)
        signal(number, SIG_DFL);
    fprintf(stderr, "FAIL %s\n", what);
    exam_print_place();
    _exit(1);
}

void exam_guard(void (*how)(const char *what))
{
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_NODEFER };
    struct itimerval every = { { 1, 0 }, { 1, 0 } };

    escape = how;
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGABRT, &sa, NULL);
    sigaction(SIGFPE, &sa, NULL);
    sa.sa_flags |= SA_RESTART;
    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

/* ---- judgement ----------------------------------------------------------------------------------- */

static void on_problem(void *arg, const struct shmfs_problem *p)
{
    if (problem[0] == 0)
        snprintf(problem, sizeof(problem), "the check: inode %u: %s", p->ino, p->text);
}

static bool check_finds(struct shmfs *fs)
{
    const struct shmfs_check check = { .problem = on_problem };
    struct shmfs_check_result result;
    int r;

    problem[0] = 0;
    r = shmfs_check_run(fs, &check, &result);
    if (r < 0)
        snprintf(problem, sizeof(problem), "the check gave %d", r);
    return r < 0 || result.problems > 0;
}

/* The file's contents are `after` up to some byte and `before` from there on. */
static bool part_good(struct shmfs *fs, const struct part *part, bool whole)
{
    static uint8_t now[PREFIX_MAX];
    ssize_t size = file_read(fs, part->ino, now, sizeof(now), 0);
    size_t i = 0, n = (size_t)size, least = MIN(part->before_size, part->after_size),
           most = MAX(part->before_size, part->after_size);

    if (size < 0 || n < least || n > most)
        return false;
    if (whole) /* with one size or the other */
        return (n == part->before_size || n == part->after_size) &&
               ((n <= part->before_size && memcmp(now, part->before, n) == 0) ||
                (n <= part->after_size && memcmp(now, part->after, n) == 0));
    while (i < n && i < part->after_size && now[i] == part->after[i])
        i++;
    for (; i < n; i++) {
        if (now[i] != (i < part->before_size ? part->before[i] : 0))
            return false;
    }
    return true;
}

const char *exam_verdict(struct level *l, const struct allowed *allowed, uint32_t n)
{
    struct shmfs *fs = level_fs(l);
    bool whole = exam.judge != JUDGE_PREFIX && exam.judge != JUDGE_BLOCKS;

    if (check_finds(fs))
        return problem;
    view_take(fs, exam.loose, &found);
    if (found.trouble[0] != 0)
        return found.trouble;
    for (uint32_t i = 0; i < n; i++) {
        if (view_same(allowed[i].view, &found, whole ? VIEW_ALL : exam.part.index))
            return whole || part_good(fs, &exam.part, exam.judge == JUDGE_BLOCKS)
                       ? ""
                       : "the file's contents are neither the old nor a part of the new";
    }
    return "the state is none that it may be";
}

/* A counter that was odd was made even by going on, never by going back (A10). */
static bool sequences_good(const struct level *l)
{
    const struct shmfs *was = level_fs(&levels[l->number - 1]), *is = l->seats[0].fs;

    for (uint32_t i = 0; i < is->l.ninodes; i++) {
        if (is->inode_rts[i].seq < was->inode_rts[i].seq)
            return false;
    }
    return true;
}

/* Nothing is left of anybody but the level's own: no record, no lock of a program, no word on a close. */
static bool dead_gone(const struct level *l)
{
    const struct shmfs *fs = l->seats[0].fs;

    for (uint32_t i = 0; i < use_count(fs); i++) {
        if (*use_at(fs, i) != 0 && use_proc(*use_at(fs, i)) != l->seats[0].role)
            return false;
    }
    for (uint32_t i = 0; i < fs->l.nranges; i++) {
        if (fs->ranges[i].owner.v != 0 && fs->ranges[i].owner.v != fs->self.v)
            return false;
    }
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        if (fs->slots[i].closing.n != 0)
            return false;
    }
    return true;
}

/* A free inode that seemed to be in use would not be freed in its next life. */
static bool uses_good(const struct level *l)
{
    const struct shmfs *fs = l->seats[0].fs;

    for (uint32_t i = 1; i < fs->l.ninodes; i++) {
        if (inode_at(fs, i)->mode == 0 && inode_used(fs, i, NO_USE))
            return false;
    }
    return true;
}

/* ---- death and burial ---------------------------------------------------------------------------- */

bool exam_bury(struct level *l)
{
    struct shmfs *fs = level_fs(l);

    for (uint32_t rounds = 1; rounds < 8; rounds++) {
        bool left = false;

        int r = recover_dead(fs);
        if (r < 0 && r != -EBUSY)
            return false;
        for (uint32_t i = 0; i < fs->l.nprocs; i++)
            left |= fs->procs[i].inc != 0 && i != l->seats[0].role;
        exam.rounds = MAX(exam.rounds, (uint64_t)rounds);
        if (!left)
            return true;
    }
    return false;
}

static void examine(struct level *l, const struct allowed *allowed, uint32_t n)
{
    const char *what = exam_verdict(l, allowed, n);

    exam.states++;
    if (what[0] == 0 && !sequences_good(l))
        what = "a sequence counter went back";
    if (what[0] == 0 && !uses_good(l))
        what = "a free inode has lookups, opens or pins";
    if (what[0] == 0 && !dead_gone(l))
        what = "a use record, a byte-range lock or a close of the dead is left";
    if (what[0] != 0)
        exam_fail(l, what, allowed, n);
}

/* Somebody on level L died now. TORN: of a store of N bytes at TORN only the first or last CUT were done. */
static void die(struct seat *seat, const uint8_t *torn, const uint8_t *old, size_t from, size_t n)
{
    struct level *l = &levels[seat->level->number + 1];
    bool heir = l->number == 1 && exam.heir != NULL;

    exam.ticks++;
    level_sync(l);
    if (torn != NULL) {
        uint8_t *at = level_fs(l)->base + (torn - seat->fs->base);
        hooks_copy(at + from, old + from, n);
        level_changed(l, at + from, n);
    }
    l->seats[0].watch.armed = l->number == 1 && exam.every[1] != 0;
    exam.store[1] = l->number == 1 ? 0 : exam.store[1];
    if (heir) {
        script_held = exam.held;
        script_run(level_fs(l), exam.heir, true);
    } else if (!exam_bury(l)) {
        exam_fail(l, "the dead are not buried", NULL, 0);
    }
    l->seats[0].watch.armed = false;
    if (l->number == 1)
        exam.store[1] = 0;
    if (heir && !exam_bury(l))
        exam_fail(l, "the dead are not buried", NULL, 0);
    if (heir)
        examine(l, exam.heirs, exam.nheirs);
    else if (l->number == 1)
        examine(l, exam.allowed, exam.nallowed);
    else
        examine(l, exam.late, exam.nlate);
}

void exam_foresee(const char *heir, bool loose, struct view *ret, struct view *ret_late)
{
    struct level *l = &levels[1], *last = &levels[2];

    level_sync(l);
    if (heir != NULL)
        script_run(level_fs(l), heir, true);
    level_sync(last);
    if (!exam_bury(l) || !exam_bury(last))
        exam_fail(l, "the dead are not buried", NULL, 0);
    if (ret != NULL)
        view_take(level_fs(l), loose, ret);
    view_take(level_fs(last), loose, ret_late);
}

uint64_t exam_chance(uint64_t a, uint64_t b)
{
    uint64_t z = exam.seed + a * UINT64_C(0x9e3779b97f4a7c15) + b * UINT64_C(0xd1342543de82ef95);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static bool selected(uint32_t level)
{
    uint64_t number = exam.store[level];

    if (mutant.drop != 0) {
        if (mutant.count < mutant.drop || exam.failed_here > 0 || exam.most == 0)
            return false; /* nothing is wrong yet, or enough was seen */
        exam.most--;
    }

    if (exam.only[level] != 0)
        return number == exam.only[level];
    return exam.every[level] == 1 ||
           (exam.every[level] > 1 &&
            exam_chance(number, level == 0 ? exam.salt : exam.salt + exam.store[0]) % exam.every[level] == 0);
}

bool exam_count(struct seat *seat, const uint8_t *at, const void *pc)
{
    uint32_t level = seat->level->number;

    exam.store[level]++;
    exam.pc[level] = pc;
    exam.at[level] = level_fs(seat->level)->base + (at - seat->fs->base);
    return selected(level);
}

/* ---- snapshots (S8) ------------------------------------------------------------------------------ */

static bool is_inside(const struct shmfs *fs)
{
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        const struct slot *s = &fs->slots[i];

        if (s->owner.v == fs->self.v && s->nlocks != 0 && s->outside == 0)
            return true;
    }
    return false;
}

/* A store to the persistent area is made inside the gate, to a page that is marked. */
static void expect_marked(struct seat *seat, const uint8_t *at, const void *pc)
{
    const struct shmfs *fs = seat->fs;
    uint64_t off = (uint64_t)(at - fs->base), page = (off - fs->l.group_desc) / BLOCK_SIZE;

    if (off < fs->l.group_desc || mutant.drop != 0 || script_by_pointer)
        return;
    exam.pc[seat->level->number] = pc;
    exam.at[seat->level->number] = at;
    if ((fs->dirty[page / 64] >> page % 64 & 1) == 0 ||
        (fs->dirty_sums[page / DIRTY_SUM / 64] >> page / DIRTY_SUM % 64 & 1) == 0)
        exam_fail(seat->level, "a page is stored to and not marked as dirty", NULL, 0);
    else if (!is_inside(fs))
        exam_fail(seat->level, "the persistent area is stored to outside of the gate", NULL, 0);
}

/* Only what the operation marks itself. */
static void marks_forget(struct shmfs *fs)
{
    memset(fs->dirty_sums, 0, fs->l.dirty - fs->l.dirty_sums);
    memset(fs->dirty, 0, div_up(fs->l.npages, 64) * 8);
}

void exam_on_store(struct seat *seat, const uint8_t *at, size_t n, const void *pc)
{
    expect_marked(seat, at, pc);
    if (exam.mend != NULL)
        exam.mend(seat);
    if (exam_count(seat, at, pc))
        die(seat, NULL, NULL, 0, 0);
}

static void on_torn(struct seat *seat, uint8_t *at, size_t n, const uint8_t *old, const void *pc)
{
    if (exam_count(seat, at, pc))
        die(seat, at, old, 8, n - 8); /* only the first word was stored */
    if (n > 16 && exam_count(seat, at, pc))
        die(seat, at, old, n - 8, 8); /* all but the last */
    if (exam_count(seat, at, pc))
        die(seat, at, old, 0, 8); /* all but the first */
}

void exam_begin(const char *mode, const char *name, const char *op)
{
    exam.mode = mode;
    exam.name = name;
    exam.op = op;
    exam.failed_here = 0;
    exam.salt = XXH3_64bits(op, strlen(op));
    if (exam.heir != NULL)
        exam.salt += XXH3_64bits(exam.heir, strlen(exam.heir));
    memset(exam.store, 0, sizeof(exam.store));
    for (uint32_t i = 0; i < LEVELS; i++) {
        levels[i].store = exam_on_store;
        levels[i].torn = on_torn;
    }
}

struct script_result exam_run(struct seat *seat, const char *text)
{
    marks_forget(seat->fs);
    seat->watch.armed = true;
    struct script_result r = script_run(seat->fs, text, true);
    seat->watch.armed = false;
    if (exam.mend != NULL)
        exam.mend(seat);
    exam.store[0]++;
    exam.pc[0] = NULL;
    exam.at[0] = level_fs(&levels[0])->base;
    if (selected(0))
        die(seat, NULL, NULL, 0, 0); /* done, and not yet told anybody */
    return r;
}
