/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_START_H
#define SHMFS_START_H

/* Going to the background: only once the mount answers. */

/*
 * Forks. In the child it returns the descriptor for start_ready(). The parent never returns: it
 * waits until the child is ready and `mountpoint` answers, and exits with 0; or else with the
 * child's status. -1: cannot fork; has been said.
 */
int start_in_background(const char *mountpoint, int failure_status);

/* In the child: the mount is being served. From here on messages go to the log. */
void start_ready(int fd);

#endif
