/* SPDX-License-Identifier: MIT */
#ifndef CRASH_SCRIPT_H
#define CRASH_SCRIPT_H

/*
 * Operations as text, so that a case can be read at a glance: commands with ';' between them, words
 * with blanks between them. Paths are absolute; numbers may end in K.
 *
 *   create P | mkdir P | fifo P | chr P | tmpfile DIR | symlink P LEN
 *   link P P | unlink P | unlinkfirst DIR | rmdir P | rename P P [noreplace|exchange|whiteout]
 *   file P SIZE [SEED]       create and write        many DIR N LEN   N links to DIR/0, of LEN bytes
 *   sparse P N [STRIDE]      N blocks with holes     scatter P N      N blocks, no two side by side
 *   write P OFF LEN SEED [append|kill]               truncate P SIZE
 *   fallocate P OFF LEN [keep|punch|zero|zerokeep]   copy P OFF P OFF LEN
 *   setxattr P NAME LEN SEED [create|replace]        removexattr P NAME
 *   acl P small|named        defacl P small|named    (named: has more entries than a mode)
 *   chmod P MODE | chown P UID GID | resetmode P SIZE MODE (both in one call)
 *   hold P                   counts a lookup, remembers the inode     drop   gives it back
 *   linkheld P               gives the inode that is held a name
 *   look P | list P | read P LEN                     ref P   counts a lookup
 *   full N                   takes all free blocks but N              fullinodes
 *   tend                     shmfs_region_tend()
 *
 * By the functions of shmfs.h (script_use.c). A file can be named by "." as well: the one that `hold`,
 * `tmpfile` or `open` named last, with or without names.
 *   open P [creat|excl|trunc|tmp|dir]     close P      flink P (gives "." a name)
 *   held                                ESTALE if "." is freed
 *   map P OFF LEN [ro] | unmap P        msync P      poke P OFF LEN SEED   stores by pointer
 *   lock P START END r|w [KIND [KEY]]   unlock P START END [KIND [KEY]]    KIND: posix, ofd, flock
 *   fullranges N                        takes all records of such locks but N
 *   ptruncate, pchmod, plink, psetxattr, punlink, prename, pmkdir          as above, by path
 *
 *   other COMMAND   not we, but script_other is who opens, maps or locks
 *
 * A command that begins with an error's name must end with it: "ENOSPC create /a".
 */
#include "region.h"

struct script_result {
    long result;     /* of the last command */
    char failed[80]; /* the command that ended otherwise than it says, or "" */
};

/* Whom `other` means; the inode that is called ".". */
extern struct procref script_other;
extern volatile bool script_by_pointer; /* a program stores to what it has mapped: of that, nobody knows */
extern uint32_t script_held;

/* ANY: errors are no failure. */
struct script_result script_run(struct shmfs *fs, const char *text, bool any);

/* The inode that a path names, or 0. */
uint32_t script_ino(struct shmfs *fs, const char *path);

/* Byte OFF of what `write … SEED` writes. */
uint8_t script_byte(unsigned seed, uint64_t off);

#endif
