/* SPDX-License-Identifier: MIT */
#include "dirty.h"

enum { WORD = 64, SUM_WORDS = DIRTY_SUM / WORD };

void dirty_mark_slowly(struct shmfs *fs, uint64_t first, uint64_t last)
{
    if (last >= fs->l.npages) /* what was to be stored to was looked at before: a scribbled reference */
        return;
    for (uint64_t w = first / WORD; w <= last / WORD; w++) {
        uint64_t bits = ~UINT64_C(0), sum = UINT64_C(1) << w / SUM_WORDS % WORD;
        uint64_t *sums = &fs->dirty_sums[w / SUM_WORDS / WORD];

        if (w == first / WORD)
            bits &= ~UINT64_C(0) << first % WORD;
        if (w == last / WORD)
            bits &= ~UINT64_C(0) >> (WORD - 1 - last % WORD);
        /*
         * The summary first: killed between, a bit too many is looked at; the other way a page would be forgotten. And once more
         * after: marks may just be taken by one whose gate was opened by force.
         */
        if ((LOAD_RELAXED(sums) & sum) == 0)
            __atomic_fetch_or(sums, sum, __ATOMIC_SEQ_CST);
        if ((LOAD_RELAXED(&fs->dirty[w]) & bits) != bits)
            __atomic_fetch_or(&fs->dirty[w], bits, __ATOMIC_SEQ_CST);
        fence_after_rmw();
        if (unlikely((LOAD_RELAXED(sums) & sum) == 0))
            __atomic_fetch_or(sums, sum, __ATOMIC_SEQ_CST);
    }
}

int dirty_reserve(struct shmfs *fs, uint64_t off, uint64_t n)
{
    uint64_t first = (off - fs->l.group_desc) / BLOCK_SIZE,
             last = (off + n - 1 - fs->l.group_desc) / BLOCK_SIZE;

    return region_reserve(fs, fs->l.dirty + first / WORD * 8, (last / WORD - first / WORD + 1) * 8);
}

bool dirty_take(struct shmfs *fs, uint64_t *from, uint32_t words,
                void (*found)(void *arg, uint64_t page, uint64_t bits), void *arg)
{
    uint64_t nsums = div_up(fs->l.npages, DIRTY_SUM);

    for (uint64_t s = *from / DIRTY_SUM; s < nsums; s++) {
        uint64_t *sums = &fs->dirty_sums[s / WORD], sum;
        uint64_t set = LOAD_RELAXED(sums) >> s % WORD;

        if (set == 0) {
            s |= WORD - 1; /* nor any other of this word */
            continue;
        }
        s += (uint64_t)__builtin_ctzll(set);
        if (s >= nsums)
            break;
        sum = UINT64_C(1) << s % WORD;
        if (words < SUM_WORDS) {
            *from = s * DIRTY_SUM;
            return true;
        }
        /* Before its words: what is marked from here on sets it again. */
        __atomic_fetch_and(sums, ~sum, __ATOMIC_SEQ_CST);
        for (uint64_t w = s * SUM_WORDS; w < (s + 1) * SUM_WORDS && w * WORD < fs->l.npages; w++) {
            uint64_t bits = LOAD_RELAXED(&fs->dirty[w]);

            if (bits == 0)
                continue;
            bits = __atomic_exchange_n(&fs->dirty[w], 0, __ATOMIC_SEQ_CST);
            found(arg, w * WORD, bits);
            words--;
        }
    }
    *from = 0;
    return false;
}
