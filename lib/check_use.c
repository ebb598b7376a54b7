/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "check_impl.h"

/* Who uses which inode: opens, pins, and locks of programs. */

bool check_used(const struct check *ck, uint32_t ino, enum use_kind kind)
{
    for (uint64_t i = 0; i < (uint64_t)ck->fs->l.nuses * USE_RECORDS; i++) {
        uint64_t word = ck->fs->uses[i / USE_RECORDS].records[i % USE_RECORDS];

        if (word != 0 && (word & USE_ENDING) == 0 && (uint32_t)word == ino &&
            (kind == 0 || (word >> 48 & 3) == kind))
            return true;
    }
    return false;
}

static void check_use(struct check *ck, uint64_t index, uint64_t word)
{
    uint32_t ino = (uint32_t)word;
    uint64_t proc = (word >> 32 & 0xffff) - 1;

    if ((word & USE_ENDING) != 0)
        check_problem(ck, 0, "use record %" PRIu64 ": was ending, and is still there", index);
    if (proc >= ck->fs->l.nprocs || ck->fs->procs[proc].inc == 0)
        check_problem(ck, 0, "use record %" PRIu64 ": its process %" PRIu64 " is not there", index, proc);
    if (ino == 0 || ino >= ck->fs->l.ninodes || ck->fs->inodes[ino].mode == 0)
        check_problem(ck, 0, "use record %" PRIu64 ": names inode %u, which is free", index, ino);
}

/* Walks the chain of an inode's locks. */
static void check_chain(struct check *ck, uint32_t ino)
{
    uint32_t at = ck->fs->inode_rts[ino].ranges;

    for (uint32_t n = 0; at != 0; n++) {
        if (at > ck->fs->l.nranges || n >= ck->fs->l.nranges) {
            check_problem(ck, ino, "its chain of byte-range locks runs astray");
            return;
        }
        struct range r = ck->fs->ranges[at - 1];
        if (r.ino.n != ino || r.owner.v == 0 || r.start > r.end) {
            check_problem(ck, ino, "byte-range lock %u is not one of this inode", at - 1);
            return;
        }
        uint64_t proc = (r.owner.v & 0xffff) - 1;
        if (proc >= ck->fs->l.nprocs || ck->fs->procs[proc].inc != r.owner.v >> 16)
            check_problem(ck, ino, "byte-range lock %u: its process is not there", at - 1);
        at = r.next;
    }
}

void check_uses(struct check *ck)
{
    for (uint64_t i = 0; i < (uint64_t)ck->fs->l.nuses * USE_RECORDS; i++) {
        uint64_t word = ck->fs->uses[i / USE_RECORDS].records[i % USE_RECORDS];
        if (word != 0)
            check_use(ck, i, word);
    }
    for (uint32_t i = 0; i < ck->fs->l.nranges; i++) {
        struct range r = ck->fs->ranges[i];
        if (r.owner.v != 0 && r.ino.n != 0 && r.ino.n < ck->fs->l.ninodes)
            check_chain(ck, r.ino.n);
    }
}
