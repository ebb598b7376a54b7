/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_ACL_H
#define SHMFS_ACL_H

/*
 * POSIX ACLs, as far as a filesystem under the kernel's checks has to know them: an access ACL and the
 * mode are two views of one thing, and a directory's default ACL shapes what is made in it. The bytes
 * are those of the system.posix_acl_* attributes.
 */
#include "xattr.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/*
 * Sets or removes (value NULL) an ACL attribute, and the mode with it. An access ACL that says no more
 * than the mode is not kept. After inode_edit(); leaves a todo record as xattr_change() does. -EINVAL: malformed; -EACCES:
 * a default ACL for what is not a directory.
 */
int acl_change(struct txn *t, uint32_t ino, struct inode *in, const char *name, const void *value, size_t n,
               int flags);
/* After a chmod: the mask or group entry of the access ACL follows in->mode. */
int acl_chmod(struct txn *t, uint32_t ino, struct inode *in);
/*
 * For a new inode `ino` in directory `dino` (both locked): the mode that it gets, and the ACLs that it
 * inherits. Without a default ACL the umask counts.
 */
int acl_inherit(struct txn *t, uint32_t dino, uint32_t ino, struct inode *in, mode_t umask);

bool acl_is_name(const char *name);

/*
 * Does the access ACL give user `uid`, who is in the groups that in_group() says, all of `want` (bits as in
 * a mode)? `head`: the inode's scalar fields. 0, -EACCES; -ENODATA: there is no ACL, and the mode counts.
 */
int acl_permits(struct shmfs *fs, uint32_t ino, const struct inode *head, uid_t uid,
                bool (*in_group)(void *arg, gid_t gid), void *arg, uint32_t want);

#endif
