/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_EXPORTS_H
#define SHMFS_EXPORTS_H

/*
 * What libshmfs.so lets out. The build includes this ahead of every file of lib/ and hides whatever
 * is not declared here (-fvisibility=hidden); libshmfs.map then gives each name its version.
 */
#pragma GCC visibility push(default)
#include "node.h"
#include "shmfs.h"
#pragma GCC visibility pop

#endif
