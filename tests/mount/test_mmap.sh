#!/bin/bash
# SPDX-License-Identifier: MIT
# Files of the mount in memory: mmap, msync, read(), write() and other processes see the same bytes.
. "$(dirname "$0")/lib.sh"
maps() { "$PY" "$T_HERE/mmap_programs.py" "$MNT"; }
each_way maps
