/* SPDX-License-Identifier: MIT */
#include "mutant.h"

struct mutant mutant;

enum { RANGES_MAX = 8192 };

/* What the running transaction has recorded. */
static struct {
    const uint8_t *at;
    uint32_t len;
} ranges[RANGES_MAX];
static uint32_t nranges;

void mutant_begin(const struct shmfs *fs, uint64_t drop)
{
    mutant = (struct mutant){ .fs = fs, .drop = drop };
    nranges = 0;
}

void mutant_over(void)
{
    for (size_t i = 0; !mutant.over && mutant.at != NULL && i < mutant.len && i < BLOCK_SIZE; i++)
        mutant.new[i] = mutant.at[i];
    mutant.over = true;
}

static bool covered(const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (uint32_t k = 0; k < nranges && !found; k++)
            found = (size_t)(at + i - ranges[k].at) < ranges[k].len;
        if (!found)
            return false;
    }
    return true;
}

static bool drops(const struct txn *t, const void *p, size_t n, const void *pc)
{
    if (t->fs != mutant.fs || t->adopted)
        return false;
    bool drop = ++mutant.count == mutant.drop;
    if (mutant.drop != 0 && mutant.count > mutant.drop && t->tail == 0)
        mutant_over();
    if (mutant.drop == 0 || mutant.count > mutant.drop)
        return false;
    if (t->tail == 0)
        nranges = 0;
    if (drop) {
        mutant.kind = covered(p, n) ? MUTANT_COVERED : MUTANT_PLAIN;
        mutant.at = p;
        mutant.len = (uint32_t)n;
        mutant.pc = pc;
        for (size_t i = 0; i < n && i < BLOCK_SIZE; i++)
            mutant.old[i] = mutant.at[i];
    } else if (nranges < RANGES_MAX) {
        ranges[nranges].at = p;
        ranges[nranges++].len = (uint32_t)n;
    }
    return drop;
}

void __real_txn_save(struct txn *t, const void *p, size_t n);
void __wrap_txn_save(struct txn *t, const void *p, size_t n);
void __wrap_txn_save(struct txn *t, const void *p, size_t n)
{
    if (!drops(t, p, n, __builtin_return_address(0)))
        __real_txn_save(t, p, n);
}

/* As in txn.c, whose call of txn_save() within the file cannot be replaced. */
void __wrap_txn_todo(struct txn *t, enum todo_op op, uint32_t ino, uint64_t from, uint64_t to);
void __wrap_txn_todo(struct txn *t, enum todo_op op, uint32_t ino, uint64_t from, uint64_t to)
{
    struct todo todo = { .op = op, .ino = { ino }, .from = from, .to = to };

    if (!drops(t, &t->slot->todo, sizeof(todo), __builtin_return_address(0)))
        __real_txn_save(t, &t->slot->todo, sizeof(todo));
    t->slot->todo = todo;
}
