#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What snapshots cost, beside dd and rsync on the same disk.

The same files, of seeded bytes that do not compress, are on a tmpfs and on a mounted region. Each
round does everything once, in an order that changes with each round: what is compared is done one
right after the other, and what counts is the median, over the rounds, of the ratio within a round.
Before each the disk has written what it still had to write. All sources are in memory, on both
sides, and the disk's files too when they are read: nothing here waits for a disk to read. What
writes all is done twice, and the second time counts: a disk of a virtual machine may take several
times as long for blocks that were never written before.

`shmfsctl snapshot` is timed as a command, from its start to its end, while the driver is mounted. It
ends when the image is durable. dd has conv=fsync; rsync syncs nothing, so it is also measured with a
`sync -f` of the disk that follows it.

The pause is what `shmfsctl snapshot --json` says: the longest time that the gate was shut.
"""
import argparse
import contextlib
import glob
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from bench import ROOT, Failed, Shmfs, Tmpfs, duration, machine, paired, rotated, say, table, times

PAGE = 4096
IN_DIRECTORY = 100
HUNDREDTH = 100
LEAD_S = 0.2  # of the writer, before each snapshot
SECOND_S = 1.05  # rsync takes a file for unchanged if its size is, and the second of its mtime

FULL, FILES, PAGES = 'full', 'files', 'pages'
# operation, against, target: times as fast; what each is called in the results
LINES = [
    (FULL, 'snapshot', 'dd', 1 / 1.5),
    (FULL, 'snapshot', 'rsync', None),
    (FULL, 'snapshot', 'rsync, sync', None),
    (FILES, 'snapshot', 'rsync', 20),
    (FILES, 'snapshot', 'rsync, sync', None),
    (FILES, 'snapshot', 'dd', None),
    (PAGES, 'snapshot', 'rsync', 20),
    (PAGES, 'snapshot', 'rsync, sync', None),
    (PAGES, 'snapshot', 'dd', None),
    ('restore', 'restore', 'cp -a', None),
    ('restore', 'restore', 'rsync', None),
]
PAUSE_TARGET_NS = 5e6
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# ---- files ------------------------------------------------------------------------------------------

class Tree:
    """The same files under two directories, from one seed."""

    def __init__(self, args, tops):
        self.tops = tops
        self.random = random.Random(args.seed)
        mean = args.size // args.files
        self.sizes = {}
        for number in range(args.files):
            name = f'd{number // IN_DIRECTORY:04}/f{number:06}'
            self.sizes[name] = self.random.randint(mean // 2, mean * 3 // 2)
        for top in tops:
            for directory in sorted({os.path.dirname(name) for name in self.sizes}):
                os.mkdir(f'{top}/{directory}')
        for name in self.sizes:
            self.rewrite(name)
        self.changed = time.monotonic()

    @contextlib.contextmanager
    def change(self):
        time.sleep(max(0, self.changed + SECOND_S - time.monotonic()))
        yield
        self.changed = time.monotonic()

    def rewrite(self, name):
        data = self.random.randbytes(self.sizes[name])
        for top in self.tops:
            with open(f'{top}/{name}', 'wb') as file:
                file.write(data)
        return len(data)

    def change_files(self):
        """Rewrites 1 % of the files; returns how many bytes that is."""
        with self.change():
            return sum(self.rewrite(name) for name in self.random.sample(list(self.sizes), self.file_count()))

    def change_pages(self):
        """Writes 1 % of the pages in place."""
        changed = set()
        names = [name for name, size in self.sizes.items() if size >= PAGE]
        while len(changed) < self.page_count():
            name = self.random.choice(names)
            changed.add((name, self.random.randrange(self.sizes[name] // PAGE)))
        with self.change():
            for name, page in sorted(changed):
                self.write_page(name, page)
        return len(changed) * PAGE

    def write_page(self, name, page):
        data = self.random.randbytes(PAGE)
        for top in self.tops:
            with open(f'{top}/{name}', 'r+b', buffering=0) as file:
                file.seek(page * PAGE)
                file.write(data)

    def total(self):
        return sum(self.sizes.values())

    def file_count(self):
        return max(1, len(self.sizes) // HUNDREDTH)

    def page_count(self):
        return max(1, self.total() // PAGE // HUNDREDTH)


@contextlib.contextmanager
def writer(tree, top):
    """A process that rewrites the files of a directory for as long as this lasts."""
    names = list(tree.sizes)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number in ENDS:
                signal.signal(number, signal.SIG_DFL)
            data = random.Random(pid).randbytes(max(tree.sizes.values()) + PAGE)
            while os.getppid() != 1:
                name = random.choice(names)
                start = random.randrange(PAGE)
                with open(f'{top}/{name}', 'wb') as file:
                    file.write(data[start:start + tree.sizes[name]])
        except OSError as error:
            say(f'snapshot: the writer: {error}')
        finally:
            os._exit(status)
    try:
        time.sleep(LEAD_S)
        yield
        if os.waitpid(pid, os.WNOHANG)[0] != 0:
            pid = 0
            raise Failed('the writer has ended')
    finally:
        if pid:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


# ---- what is timed ----------------------------------------------------------------------------------

def run(command):
    """Seconds that it took, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise Failed(f'{" ".join(command)}: {done.stderr.strip() or done.returncode}')
    return took, done.stdout


class Bench:
    def __init__(self, args, disk, tmpfs, shmfs):
        self.args = args
        self.disk = disk
        self.tmpfs = tmpfs
        self.shmfs = shmfs
        self.ctl = f'{args.build}/tools/shmfsctl'
        self.source = f'{tmpfs.dir}/files'
        os.mkdir(self.source)
        self.image = f'{disk}/image'  # kept from round to round, as is the next
        self.copy = f'{disk}/copy'
        self.restored = f'{shmfs.region}-restored'
        self.rehearsal = False  # what is done now does not count
        self.seconds = {}  # (operation, who): of each round
        self.pauses = {}
        self.written = {}

    def settle_disk(self):
        subprocess.check_call(['sync', '-f', self.disk])

    def note(self, operation, who, seconds):
        if not self.rehearsal:
            self.seconds.setdefault((operation, who), []).append(seconds)

    def snapshot(self, image, what):
        took, printed = run([self.ctl, 'snapshot', '--json', self.shmfs.region, image])
        told = json.loads(printed)
        self.pauses.setdefault(what, []).append(told['pause_ns'])
        self.written.setdefault(what, []).append(told['written'])
        return took, told

    # -- each of these does one thing once, and notes what it took --

    def dd(self, operation, count):
        target = f'{self.disk}/dd'
        took, _ = run(['dd', f'if={self.tmpfs.dir}/bytes', f'of={target}', 'bs=1M', 'conv=fsync', 'status=none',
                       'iflag=count_bytes', f'count={count}'])
        self.note(operation, 'dd', took)
        os.unlink(target)

    def full_snapshot(self):
        image = f'{self.disk}/fresh'
        took, _ = self.snapshot(image, (FULL, 'idle'))
        self.note(FULL, 'snapshot', took)
        os.unlink(image)

    def rsync(self, operation, target, *options):
        took, _ = run(['rsync', '-a', *options, self.source + '/', target])
        synced, _ = run(['sync', '-f', self.disk])
        self.note(operation, 'rsync', took)
        self.note(operation, 'rsync, sync', took + synced)

    def full_rsync(self):
        target = f'{self.disk}/fresh-copy'
        os.mkdir(target)
        self.rsync(FULL, target)
        shutil.rmtree(target)

    def incremental_snapshot(self, operation, changed):
        took, told = self.snapshot(self.image, (operation, 'idle'))
        if told['fresh'] or told['written'] < changed or told['looked_at'] > self.tree.total() / 2:
            raise Failed(f'{operation}: this was to look at {changed} bytes and some, and to write them: {told}')
        self.note(operation, 'snapshot', took)

    def restore(self):
        took, _ = run([self.ctl, 'restore', self.image, self.restored])
        self.note('restore', 'restore', took)
        os.unlink(self.restored)

    def copy_back(self, who, command):
        target = f'{self.tmpfs.dir}/back'
        os.mkdir(target)
        took, _ = run([*command, f'{self.copy}/.', target])
        self.note('restore', who, took)
        shutil.rmtree(target)

    def snapshot_beside_writer(self, operation, image):
        with writer(self.tree, self.shmfs.dir):
            took, _ = self.snapshot(image, (operation, 'writer'))
        self.note(operation, 'beside a writer', took)

    def follow(self):
        """Changes are known since the last snapshot, whichever image it went to: now that is the kept one."""
        self.snapshot(self.image, 'follow')

    # -- rounds --

    def prepare(self):
        say('snapshot: making the files')
        self.tree = Tree(self.args, [self.source, self.shmfs.dir])
        _, told = self.snapshot(self.image, 'first')
        self.used = told['written']
        run(['rsync', '-a', self.source + '/', self.copy])
        with open(f'{self.tmpfs.dir}/bytes', 'wb') as file:
            left = self.used
            while left > 0:
                left -= file.write(self.tree.random.randbytes(min(left, 1 << 20)))

    def in_turn(self, turn, steps, rehearsals=(False,)):
        for step in rotated(steps, turn):
            for self.rehearsal in rehearsals:
                self.settle_disk()
                step()

    def incremental(self, turn, operation, change):
        changed = change()
        self.in_turn(turn, [lambda: self.incremental_snapshot(operation, changed),
                            lambda: self.rsync(operation, self.copy, '--delete'),
                            lambda: self.dd(operation, changed)])

    def round(self, turn):
        say(f'snapshot: round {turn + 1} of {self.args.rounds}')
        self.in_turn(turn, [lambda: self.dd(FULL, self.used), self.full_snapshot, self.full_rsync], (True, False))
        self.follow()
        self.incremental(turn, FILES, self.tree.change_files)
        self.incremental(turn, PAGES, self.tree.change_pages)
        self.in_turn(turn, [self.restore, lambda: self.copy_back('cp -a', ['cp', '-a']),
                            lambda: self.copy_back('rsync', ['rsync', '-a'])])

    def rounds(self):
        for turn in range(self.args.rounds):
            self.round(turn)
        self.compare_copy()
        # What the writer leaves is not on the tmpfs: so it comes last.
        say('snapshot: beside a writer')
        for _ in range(self.args.rounds):
            image = f'{self.disk}/fresh'
            self.settle_disk()
            self.snapshot_beside_writer(FULL, image)
            os.unlink(image)
            self.follow()
            self.settle_disk()
            self.snapshot_beside_writer(FILES, self.image)

    def compare_copy(self):
        """Both sides have done the same work: what they hold now is the same."""
        run([self.ctl, 'restore', self.image, self.restored])
        target = Shmfs('restored', os.path.dirname(self.shmfs.dir), self.args.build, '', f'region={self.restored}')
        try:
            for top in (self.copy, target.dir):
                run(['diff', '-rq', self.source, top])
        finally:
            target.stop()
            os.unlink(self.restored)

    def clean(self):
        for path in glob.glob(glob.escape(self.restored) + '*'):  # and what a killed restore left
            os.unlink(path)


# ---- figures ----------------------------------------------------------------------------------------

def figures(bench):
    lines = []
    for operation, ours, other, target in LINES:
        a, b = bench.seconds[operation, ours], bench.seconds[operation, other]
        lines.append({'operation': operation, 'against': other, 'target': target, 'ratio': paired(b, a),
                      'ours_s': a, 'other_s': b})
    return lines


def pause_figures(bench):
    for (operation, beside) in ((FULL, 'idle'), (FULL, 'writer'), (FILES, 'idle'), (PAGES, 'idle'), (FILES, 'writer')):
        took = bench.seconds[operation, 'snapshot' if beside == 'idle' else 'beside a writer']
        yield {'operation': operation, 'beside': beside, 'pauses_ns': bench.pauses[operation, beside],
               'written': bench.written[operation, beside], 'took_s': took}


def called(bench, operation):
    if operation == FILES:
        return f'{bench.tree.file_count():,} files rewritten'
    if operation == PAGES:
        return f'{bench.tree.page_count():,} pages changed'
    return {FULL: 'all, to a new image'}.get(operation, operation)


def seconds(values):
    return duration(statistics.median(values) * 1e9)


def size_text(n):
    return f'{n / (1 << 30):.2f} GiB' if n >= 1 << 30 else f'{n / (1 << 20):.1f} MiB'


def rows_of_ratios(bench, lines):
    yield ['operation', 'against', 'times as fast', 'target', 'shmfs', 'the other']
    for line in lines:
        yield [called(bench, line['operation']), line['against'], times(line['ratio']),
               f'{line["target"]:.3g}' if line['target'] else '-', seconds(line['ours_s']), seconds(line['other_s'])]


def rows_of_pauses(bench, pauses):
    yield ['snapshot', 'pause', 'longest', 'target', 'written', 'took']
    for line in pauses:
        what = called(bench, line['operation'])
        if line['beside'] == 'writer':
            what = {FULL: what, FILES: 'what has changed'}[line['operation']] + ', beside a writer'
        yield [what, duration(statistics.median(line['pauses_ns'])), duration(max(line['pauses_ns'])),
               duration(PAUSE_TARGET_NS), size_text(statistics.median(line['written'])), seconds(line['took_s'])]


def print_rows(args, rows):
    rows = list(rows)
    if not args.markdown:
        table(rows)
        return
    for i, row in enumerate(rows):
        print(f'| {" | ".join(row)} |')
        if i == 0:
            print(f'|{" --- |" * len(row)}')


def type_of(directory):
    return subprocess.check_output(['df', '--output=fstype', directory], text=True).split()[-1]


def show(args, bench, host):
    print(f'{host["cpu"]}, {host["cpus"]} CPUs, Linux {host["kernel"]}, load {host["load"]:.1f}; '
          f'disk: {host["disk"]}; {len(bench.tree.sizes):,} files, {size_text(bench.tree.total())}')
    if host['load'] > host['cpus'] / 4:
        print(f'NOTE: the machine was busy (load {host["load"]:.1f}) when this began: rough figures')
    if host['disk'] in ('tmpfs', 'ramfs'):
        print('NOTE: the disk is none: nothing waits for a sync here (choose another with --dir)')
    print(f'medians of {args.rounds} rounds (quartiles); above 1, shmfs is faster; times are of this machine\n')
    print_rows(args, rows_of_ratios(bench, figures(bench)))
    print()
    print_rows(args, rows_of_pauses(bench, pause_figures(bench)))


# ---- main -------------------------------------------------------------------------------------------

def bytes_of(text):
    found = re.fullmatch(r'(\d+)([KMG]?)', text)
    if not found or int(found.group(1)) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: a number, K, M or G")
    return int(found.group(1)) << {'': 0, 'K': 10, 'M': 20, 'G': 30}[found.group(2)]


def count_of(text):
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', default='build-release', metavar='DIR', help='where shmfs was built (%(default)s)')
    parser.add_argument('--dir', metavar='DIR', help='on the disk; all is made in a directory there (the build)')
    parser.add_argument('--rounds', type=count_of, default=5, metavar='N', help='(%(default)s)')
    parser.add_argument('--files', type=count_of, default=10000, metavar='N', help='(%(default)s)')
    parser.add_argument('--size', type=bytes_of, default='1G', metavar='SIZE', help='of all files (%(default)s)')
    parser.add_argument('--seed', type=int, default=1, metavar='N', help='of sizes, bytes and changes (%(default)s)')
    parser.add_argument('--driver-opts', default='', metavar='OPTIONS', help='more -o options for shmfs')
    parser.add_argument('--json', metavar='FILE', help='write all figures there')
    parser.add_argument('--markdown', action='store_true', help='print tables as docs/FIGURES.md has them')
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    if not os.access(f'{args.build}/tools/shmfsctl', os.X_OK):
        parser.error(f'{args.build}/tools/shmfsctl is not there; build first (tools/dev bench does)')
    if args.size // args.files < 2:
        parser.error('fewer bytes than files')
    return args


def main():
    args = parse_arguments()
    for number in ENDS:
        signal.signal(number, lambda *_: sys.exit(1))
    place = tempfile.mkdtemp(prefix='shmfs-bench-')
    disk, bench, targets = None, None, []
    try:
        disk = tempfile.mkdtemp(prefix='snapshot-', dir=args.dir or args.build)
        host = {**machine(), 'disk': type_of(disk)}
        targets.append(Tmpfs('tmpfs', place))
        size = f'size={max(args.size * 2, 64 << 20)}'
        targets.append(Shmfs('shmfs', place, args.build, size, args.driver_opts))
        bench = Bench(args, disk, *targets)
        bench.prepare()
        bench.rounds()
    except (Failed, OSError) as failure:
        print(f'FAILED: {failure}')
        return 1
    finally:
        # Whatever ended this, all of it goes, also if somebody is impatient.
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        if bench:
            bench.clean()
        sound = all([target.stop() for target in reversed(targets)])
        shutil.rmtree(place, ignore_errors=True)
        if disk:
            shutil.rmtree(disk, ignore_errors=True)
    show(args, bench, host)
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump({'machine': host, 'lines': figures(bench), 'pauses': list(pause_figures(bench))}, file, indent=1)
    if not sound:
        print('FAILED: fsck')
    return 0 if sound else 1


if __name__ == '__main__':
    sys.exit(main())
