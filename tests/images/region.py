# SPDX-License-Identifier: MIT
"""A region file as named structures. Offsets and sizes come from lib/format.h and lib/layout.c, by the compiler."""
import json
import os
import re
import subprocess
import tempfile

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib")


def structs_of(text):
    """{struct: [field]} of a header, anonymous unions taken as part of what holds them."""
    found = {}
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, flags=re.S | re.M):
        fields = []
        for declaration in re.findall(r"([^;{}]+);", body.replace("union {", "")):
            for part in declaration.strip().split(","):
                if m := re.search(r"(\w+)\s*(\[.*\])?$", part.strip().replace("\n", " ")):
                    fields.append((m[1], bool(m[2]) and m[2] == "[]"))
        found[name] = fields
    return found


def facts(cache=None):
    """Compiles and runs a program that prints every offset and size. `cache`: what an earlier one said."""
    if cache and os.path.exists(cache):
        with open(cache) as f:
            return json.load(f)
    with open(os.path.join(LIB, "format.h")) as f:
        structs = structs_of(f.read())
    lines = ["#include <stdio.h>", '#include "layout.h"', "int main(void) {", 'printf("{");']
    for name, fields in structs.items():
        lines.append(f'printf("\\"{name}\\":{{\\"size\\":%zu,\\"fields\\":{{", sizeof(struct {name}));')
        for i, (field, flexible) in enumerate(fields):
            size = "(size_t)0" if flexible else f"sizeof(((struct {name} *)0)->{field})"
            comma = "," if i else ""
            lines.append(f'printf("{comma}\\"{field}\\":[%zu,%zu]", offsetof(struct {name}, {field}), {size});')
        lines.append('printf("}},");')
    lines.append('printf("\\"BLOCK_SIZE\\":%d}\\n", (int)BLOCK_SIZE); return 0; }')
    return json.loads(compiled("facts", lines))


def compiled(name, lines, *args):
    with tempfile.TemporaryDirectory() as d:
        source, program = os.path.join(d, name + ".c"), os.path.join(d, name)
        with open(source, "w") as f:
            f.write("\n".join(lines))
        cc = os.environ.get("CC", "cc").split()
        subprocess.run([*cc, "-w", "-D_GNU_SOURCE", "-std=gnu17", "-I", LIB, source, os.path.join(LIB, "layout.c"), "-lxxhash", "-o", program], check=True)
        return subprocess.check_output([program, *map(str, args)]).decode()


class Struct:
    """Fields as attributes: integers of their width; one-member references as integers; others as bytes."""

    def __init__(self, region, kind, offset):
        self.__dict__.update(region=region, kind=kind, offset=offset)

    def _field(self, name):
        try:
            at, size = self.region.facts[self.kind]["fields"][name]
        except KeyError:
            raise AttributeError(f"struct {self.kind} has no field {name}") from None
        return self.offset + at, size

    def __getattr__(self, name):
        at, size = self._field(name)
        data = self.region.read(at, size)
        return int.from_bytes(data, "little") if size <= 8 else data

    def __setattr__(self, name, value):
        at, size = self._field(name)
        self.region.write(at, value.to_bytes(size, "little") if isinstance(value, int) else value.ljust(size, b"\0")[:size])

    def at(self, name):
        """Where a field begins."""
        return self._field(name)[0]

    def array(self, name, kind, index):
        """One element of a field that is an array of structures (or a structure within)."""
        return Struct(self.region, kind, self.at(name) + index * self.region.facts[kind]["size"])


class Region:
    def __init__(self, path, inodes, cache=None):
        self.facts = facts(cache)
        self.fd = os.open(path, os.O_RDWR)
        self.numbers = inodes  # {path: inode number}
        self.block_size = self.facts["BLOCK_SIZE"]
        self.superblock = Struct(self, "superblock", 0)
        names = ("max_blocks", "ninodes", "group_blocks", "group_inodes", "ngroups", "nslots", "nprocs")
        areas = ("runtime", "procs", "slots", "inode_rt", "group_rt", "group_desc", "block_maps", "inode_maps", "inodes", "blocks", "end")
        lines = ["#include <stdio.h>", "#include <stdlib.h>", '#include "layout.h"', "int main(int c, char **v) { struct layout l = {"]
        lines += [f".{n} = strtoull(v[{i + 1}], 0, 10)," for i, n in enumerate(names)]
        lines += ["}; if (layout_compute(&l) < 0) return 1;"]
        lines += [f'printf("%llu ", (unsigned long long)l.{a});' for a in areas] + ["return 0; }"]
        if "layout" not in self.facts:
            values = compiled("layout", lines, *(getattr(self.superblock, n) for n in names)).split()
            self.facts["layout"] = dict(zip(areas, map(int, values)))
            if cache:
                with open(cache, "w") as f:
                    json.dump(self.facts, f)
        self.layout = self.facts["layout"]

    def read(self, at, n):
        return os.pread(self.fd, n, at)

    def write(self, at, data):
        os.pwrite(self.fd, data, at)

    def size(self):
        return os.fstat(self.fd).st_size

    def truncate(self, n):
        os.ftruncate(self.fd, n)

    def checksum(self):
        """Makes the superblock's checksum right for what it says now."""
        lines = ["#include <stdio.h>", "#include <string.h>", '#include "layout.h"']
        lines += ["int main(int c, char **v) { struct superblock sb; FILE *f = fopen(v[1], \"rb\");"]
        lines += ["if (!f || fread(&sb, sizeof(sb), 1, f) != 1) return 1;"]
        lines += ['printf("%llu", (unsigned long long)layout_checksum(&sb)); return 0; }']
        self.superblock.checksum = int(compiled("sum", lines, f"/proc/{os.getpid()}/fd/{self.fd}"))

    # ---- structures by the names of files ----

    def ino(self, name):
        return self.numbers[name]

    def inode(self, name):
        number = name if isinstance(name, int) else self.ino(name)
        return Struct(self, "inode", self.layout["inodes"] + number * self.facts["inode"]["size"])

    def inode_rt(self, name):
        number = name if isinstance(name, int) else self.ino(name)
        return Struct(self, "inode_rt", self.layout["inode_rt"] + number * self.facts["inode_rt"]["size"])

    def block(self, n):
        return self.layout["blocks"] + n * self.block_size

    def group(self, n):
        return Struct(self, "group_desc", self.layout["group_desc"] + n * self.facts["group_desc"]["size"])

    def root_extent(self, name, index=0):
        """An entry of the map within the inode: an extent, or in a deeper map the way to a node."""
        return self.inode(name).array("root", "extent", index)

    def node(self, name, index=0):
        inode = self.inode(name)
        if not inode.map_level:
            raise ValueError(f"{name} has no map node")
        return Struct(self, "node", self.block(self.root_extent(name, index).blk))

    def leaf(self, name):
        """The first leaf node of a deep map."""
        node = self.node(name)
        while node.level:
            node = Struct(self, "node", self.block(node.array("entries", "extent", 0).blk))
        return node

    def extent(self, name, index=0):
        """An extent of the file, wherever the map keeps it (within the first leaf)."""
        if self.inode(name).map_level:
            return self.leaf(name).array("entries", "extent", index)
        return self.root_extent(name, index)

    def bucket(self, name, index=0):
        return Struct(self, "bucket", self.block(self.extent(name, index).blk))

    def _entry(self, directory, name):
        want = os.fsencode(name)
        for at, index in self.slots(directory):
            s = at.array("slots", "dslot", index)
            dname = self.facts["dname"]["fields"]["name"][0]
            if self.read(at.offset + s.off + dname, s.len) == want:
                return at, s
        raise KeyError(name)

    def slot(self, directory, name):
        """The entry of a name."""
        return self._entry(directory, name)[1]

    def bucket_of(self, directory, name):
        """The bucket that a name is in."""
        return self._entry(directory, name)[0]

    def slots(self, directory):
        index = 0
        while True:
            e = self.extent(directory, index)
            if not self.inode(directory).map_level and index >= self.inode(directory).map_count:
                return
            if self.inode(directory).map_level and index >= self.leaf(directory).count:
                return
            # An extent of a directory may hold several buckets.
            for k in range(max(1, e.len)):
                b = Struct(self, "bucket", self.block(e.blk + k))
                for i in range(b.count):
                    yield b, i
            index += 1

    def xattr(self, name):
        return Struct(self, "xattr_block", self.block(self.inode(name).xattr))

    # ---- bits of the maps ----

    def _bit(self, area, per_group, n, value):
        # Group by group, each from a byte of its own.
        at = self.layout[area] + n // per_group * (per_group // 8) + n % per_group // 8
        byte = self.read(at, 1)[0]
        byte = byte | 1 << n % 8 if value else byte & ~(1 << n % 8)
        self.write(at, bytes([byte]))

    def free_inode(self):
        """The first that is neither used nor marked."""
        per_group = self.superblock.group_inodes
        for n in range(2, self.superblock.ninodes):
            at = self.layout["inode_maps"] + n // per_group * (per_group // 8) + n % per_group // 8
            if not self.inode(n).mode and not self.read(at, 1)[0] & 1 << n % 8:
                return n
        raise LookupError("no free inode")

    def mark_block(self, n, used):
        self._bit("block_maps", self.superblock.group_blocks, n, used)

    def mark_inode(self, n, used):
        self._bit("inode_maps", self.superblock.group_inodes, n, used)
