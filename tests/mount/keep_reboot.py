# SPDX-License-Identifier: MIT
"""keep_reboot.py REGION CLEAN: its runtime area is from another boot; whether it was closed before must be as CLEAN says."""
import struct
import sys

RUNTIME, CLEAN = 4096, 200  # lib/format.h

with open(sys.argv[1], "r+b") as f:
    f.seek(CLEAN)
    (clean,) = struct.unpack("<I", f.read(4))
    if clean != int(sys.argv[2]):
        sys.exit(f"its field `clean` is {clean}, should be {sys.argv[2]}")
    f.seek(RUNTIME)
    if f.read(36) != open("/proc/sys/kernel/random/boot_id", "rb").read(36):
        sys.exit("it is not of this boot")
    f.seek(RUNTIME)
    f.write(b"00000000-1111-2222-3333-444444444444")
