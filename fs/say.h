/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_SAY_H
#define SHMFS_SAY_H

/* What the driver tells people: one line each, on stderr, or in the system's log once in the background. */

__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* From now on to the log. */
void say_to_log(void);

/* Lets libfuse's messages come out as ours. */
void say_for_libfuse(void);

#endif
