/* SPDX-License-Identifier: MIT */
#include "use.h"

static uint32_t home(const struct shmfs *fs, uint32_t ino)
{
    return (uint32_t)(ino * UINT32_C(0x9e3779b1) >> 7) & (fs->l.nuses - 1);
}

int use_add(struct shmfs *fs, uint32_t ino, uint32_t proc, enum use_kind kind, uint32_t *ret_index)
{
    uint64_t word = use_word(ino, proc, kind);
    uint32_t at = home(fs, ino);

    for (uint32_t n = 0; n < fs->l.nuses; n++, at = (at + 1) & (fs->l.nuses - 1)) {
        struct use_bucket *b = &fs->uses[at];

        for (uint32_t i = 0; i < USE_RECORDS; i++) {
            uint64_t none = 0;

            if (LOAD_RELAXED(&b->records[i]) != 0)
                continue;
            if (__atomic_compare_exchange_n(&b->records[i], &none, word, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED)) {
                fence_after_rmw();
                *ret_index = at * USE_RECORDS + i;
                return 0;
            }
        }
        if (LOAD_RELAXED(&b->overflow) == 0)
            STORE(&b->overflow, UINT64_C(1));
    }
    return -ENFILE;
}

static bool scan(const struct shmfs *fs, uint32_t ino, enum use_kind kind, uint32_t except)
{
    uint32_t at = home(fs, ino);

    for (uint32_t n = 0; n < fs->l.nuses; n++, at = (at + 1) & (fs->l.nuses - 1)) {
        const struct use_bucket *b = &fs->uses[at];

        for (uint32_t i = 0; i < USE_RECORDS; i++) {
            uint64_t word = LOAD(&b->records[i]);

            if (word != 0 && (word & USE_ENDING) == 0 && use_ino(word) == ino &&
                (kind == 0 || use_kind(word) == kind) && at * USE_RECORDS + i != except)
                return true;
        }
        if (LOAD(&b->overflow) == 0)
            break;
    }
    return false;
}

bool use_any(const struct shmfs *fs, uint32_t ino, enum use_kind kind, uint32_t except)
{
    uint32_t forks;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    do { /* a fork copies records without the lock, perhaps from what we have yet to see to what we have seen */
        forks = LOAD(&fs->rt->nattach);
        if (scan(fs, ino, kind, except))
            return true;
    } while (LOAD(&fs->rt->nattach) != forks);
    return false;
}
