#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares a shmfs mount with tmpfs and with bindfs on tmpfs.

Every operation of fsbench (fsbench -l lists them) runs on all filesystems in turn, round after
round, in an order that changes with each round. What is shown is the median over the rounds, and
the median and quartiles of the ratios within each round, for what disturbs a machine disturbs
neighbours in time alike.

"Uncached" is O_DIRECT, which goes around the kernel's page cache: one READ or WRITE to the daemon
for each call, with both FUSE filesystems (bindfs does not hand O_DIRECT on to tmpfs). "Dropped"
is POSIX_FADV_DONTNEED, then reading with the kernel's readahead. "Cold" names are forgotten by
the kernel through a remount, which touches this mount only (and, on tmpfs, nothing), so that each
use is a LOOKUP; that needs root. bindfs runs with Debian's defaults, which is one thread.

At the end the program `direct` compares the library's calls with system calls on a tmpfs.
"""
import argparse
import fnmatch
import json
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

OPERATIONS = [
    'read-4k', 'read-4k-uncached', 'read-1m', 'read-1m-uncached', 'read-1m-dropped',
    'write-4k', 'write-4k-uncached', 'write-1m', 'write-1m-uncached', 'append-4k',
    'stat-warm', 'stat-cold', 'stat-missing', 'open-read-close', 'create-close',
    'rename', 'unlink', 'mkdir-rmdir', 'readdir', 'readdir-cold', 'readdir-stat-cold',
]
SCALE_OPERATIONS = ['directory', 'directory-cold']
SCALE = [1000, 1000000]
COLD = re.compile('-cold$')
ROOT = os.geteuid() == 0


class Failed(Exception):
    pass


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- filesystems ------------------------------------------------------------------------------------

class Target:
    """A directory to measure, and how to be rid of it."""

    def __init__(self, name, place):
        self.name = name
        self.dir = os.path.join(place, re.sub(r'[^\w=]+', '-', name))
        self.process = None
        self.mounted = False
        os.mkdir(self.dir)

    def mount(self, command):
        """Runs a FUSE daemon in the foreground until its mount answers."""
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise Failed(f'{command[0]}: {error.strerror}') from error
        deadline = time.monotonic() + 20
        while not os.path.ismount(self.dir):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f'{self.name} did not mount: {shlex.join(command)}')
            time.sleep(0.01)
        self.mounted = True

    def stop(self):
        if self.mounted:
            command = ['umount'] if ROOT else ['fusermount3', '-u']
            if subprocess.call(command + [self.dir]) != 0:
                subprocess.call(command[:1] + (['-l'] if ROOT else ['-uz']) + [self.dir])
            self.mounted = False
        if self.process:
            for end in (None, self.process.terminate, self.process.kill):
                if end:
                    end()
                try:
                    self.process.wait(10)
                    break
                except subprocess.TimeoutExpired:
                    say(f'bench: {self.name} has not ended: pid {self.process.pid}')
        shutil.rmtree(self.dir, ignore_errors=True)
        return True


class Tmpfs(Target):
    """A mount of its own, or, without root, a directory on /dev/shm."""

    def __init__(self, name, place):
        super().__init__(name, place)
        if ROOT:
            subprocess.check_call(['mount', '-t', 'tmpfs', '-o', 'size=75%,nr_inodes=4m', 'bench', self.dir])
            self.mounted = True
        else:
            os.rmdir(self.dir)
            self.dir = tempfile.mkdtemp(prefix='shmfs-bench-', dir='/dev/shm')


class Bindfs(Target):
    def __init__(self, name, place, options):
        super().__init__(name, place)
        self.backing = Tmpfs('backing of ' + name, place)
        try:
            self.mount(['bindfs', '-f'] + shlex.split(options) + [self.backing.dir, self.dir])
        except BaseException:
            self.stop()
            raise

    def stop(self):
        super().stop()
        return self.backing.stop()


class Shmfs(Target):
    def __init__(self, name, place, build, size, options):
        super().__init__(name, place)
        self.build = build
        self.region = f'/dev/shm/{os.path.basename(place)}-{os.path.basename(self.dir)}'
        options = ','.join(filter(None, [f'region={self.region}', size, options]))
        try:
            self.mount([f'{build}/fs/shmfs', '-f', '-o', options, self.dir])
        except BaseException:
            self.stop()
            raise

    def stop(self):
        super().stop()
        sound = True
        if os.path.exists(self.region):
            fsck = f'{self.build}/tools/fsck.shmfs'
            if os.access(fsck, os.X_OK) and subprocess.call([fsck, '-n', self.region]) != 0:
                say(f'bench: {self.name}: fsck finds problems after the run')
                sound = False
            os.unlink(self.region)
        return sound


def start_targets(args, place, targets):
    targets.append(Tmpfs('tmpfs', place))
    if not args.scale_only:
        for options in [''] + args.bindfs_opts:
            targets.append(Bindfs(f'bindfs {options}'.strip(), place, options))
    if not os.access(f'{args.build}/fs/shmfs', os.X_OK):
        raise Failed(f'{args.build}/fs/shmfs is not there; build first (tools/dev bench does)')
    size = 'size=8G,inodes=1200000' if args.scale else 'size=4G'
    for options in [''] + args.driver_opts:
        targets.append(Shmfs(f'shmfs {options}'.strip(), place, args.build, size, options))
    for build in args.also:
        targets.append(Shmfs(f'shmfs of {os.path.basename(build)}', place, os.path.abspath(build), size, ''))


# ---- measuring --------------------------------------------------------------------------------------

def fsbench(args, target, step, operation, threads, directory=None, entries=None):
    """Runs one step of an operation; returns ns for each, for the step `run`."""
    command = [args.fsbench, '-s', step, '-t', str(threads), '-m', str(args.ms), '-M', target.dir]
    if entries:
        command += ['-n', str(entries)]
    command += [directory or target.dir, operation]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise Failed(f'{target.name}: {operation}: no end') from error
    if run.returncode != 0:
        raise Failed(f'{target.name}: {operation}: {run.stderr.strip() or run.returncode}')
    found = re.search(r' ns=([\d.]+)', run.stdout)
    return float(found.group(1)) if found else None


def rotated(items, turn):
    """Everybody is first, last, and behind everybody else, equally often."""
    k = turn % len(items)
    items = items[k:] + items[:k]
    return items[::-1] if turn // len(items) % 2 else items


class Runner:
    """Rounds over cells; a cell that fails is left out from then on, and said."""

    def __init__(self, args):
        self.args = args
        self.failures = []

    def attempt(self, cells, cell, function):
        try:
            return function()
        except Failed as failure:
            say(f'bench: {failure}')
            self.failures.append(str(failure))
            cells.remove(cell)
            return None

    def operation(self, targets, operation):
        """{threads: {target: [ns of each round]}}"""
        threads = self.args.threads
        cells = list(targets)
        for target in targets:
            self.attempt(cells, target, lambda: fsbench(self.args, target, 'prep', operation, max(threads)))
        results = {n: {} for n in threads}
        for turn in range(self.args.rounds):
            for n in threads:
                for target in rotated(list(cells), turn):
                    ns = self.attempt(cells, target, lambda: fsbench(self.args, target, 'run', operation, n))
                    results[n].setdefault(target.name, []).append(ns)
        for target in list(cells):
            self.attempt(cells, target, lambda: fsbench(self.args, target, 'clean', operation, max(threads)))
        alive = {target.name for target in cells}
        return {n: {name: ns for name, ns in by.items() if name in alive} for n, by in results.items()}

    def scale(self, targets, operation):
        """{target: {entries: [ns of each round]}}"""
        cells = [(target, entries) for target in targets for entries in SCALE]
        for cell in list(cells):
            target, entries = cell
            directory = os.path.join(target.dir, str(entries))
            os.makedirs(directory, exist_ok=True)
            if not os.path.exists(os.path.join(directory, operation + '.0')):
                self.attempt(cells, cell, lambda: fsbench(self.args, target, 'prep', operation, 1, directory, entries))
        results = {}
        for turn in range(self.args.rounds):
            for cell in rotated(list(cells), turn):
                target, entries = cell
                directory = os.path.join(target.dir, str(entries))
                ns = self.attempt(cells, cell,
                                  lambda: fsbench(self.args, target, 'run', operation, 1, directory, entries))
                results.setdefault(target.name, {}).setdefault(entries, []).append(ns)
        # The other scale operations work on the same directory: a million files are made once.
        if operation != SCALE_OPERATIONS[-1]:
            for target, entries in cells:
                directory = os.path.join(target.dir, str(entries))
                following = SCALE_OPERATIONS[SCALE_OPERATIONS.index(operation) + 1]
                os.rename(f'{directory}/{operation}.0', f'{directory}/{following}.0')
        alive = {(target.name, entries) for target, entries in cells}
        return {name: by for name, by in results.items() if all((name, entries) in alive for entries in SCALE)}


# ---- figures ----------------------------------------------------------------------------------------

def spread(values):
    if len(values) == 1:
        return {'median': values[0], 'q1': values[0], 'q3': values[0]}
    q1, median, q3 = statistics.quantiles(values, n=4, method='inclusive')
    return {'median': median, 'q1': q1, 'q3': q3}


def paired(over, under):
    return spread([a / b for a, b in zip(over, under)])


def duration(ns):
    for unit, size in (('ms', 1e6), ('µs', 1e3)):
        if ns >= size:
            n = ns / size
            return f'{n:.0f} {unit}' if n >= 100 else f'{n:.1f} {unit}' if n >= 10 else f'{n:.2f} {unit}'
    return f'{ns:.0f} ns'


def times(ratio):
    def short(x):
        return f'{x:.0f}' if x >= 100 else f'{x:.1f}' if x >= 10 else f'{x:.2f}'
    return f'{short(ratio["median"])} ({short(ratio["q1"])}–{short(ratio["q3"])})'


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print('  '.join(cell.ljust(w) if i == 0 else cell.rjust(w)
                        for i, (cell, w) in enumerate(zip(row, widths))).rstrip())


def compare(results):
    """The line of the report for one operation and number of threads."""
    line = {'ns': {name: spread(ns) for name, ns in results.items()}, 'rounds': results}
    for name, ns in results.items():
        if name.startswith('shmfs'):
            if 'tmpfs' in results:
                line.setdefault('x_tmpfs', {})[name] = paired(ns, results['tmpfs'])
            if 'bindfs' in results:
                line.setdefault('vs_bindfs', {})[name] = paired(results['bindfs'], ns)
    return line


def print_lines(lines, names):
    """Times, then for each shmfs column its ratios."""
    variants = [name for name in names if name.startswith('shmfs')]
    head = ['operation', 'threads'] + names
    for name in variants:
        suffix = name[len('shmfs'):]
        head += [f'×tmpfs{suffix}', f'vs bindfs{suffix}']
    rows = [head]
    for line in lines:
        row = [line['operation'], str(line['threads'])]
        row += [duration(line['ns'][name]['median']) if name in line['ns'] else '-' for name in names]
        for name in variants:
            for kind in ('x_tmpfs', 'vs_bindfs'):
                ratio = line.get(kind, {}).get(name)
                row.append(times(ratio) if ratio else '-')
        rows.append(row)
    table(rows)


def print_markdown(lines, name):
    """The table of docs/FIGURES.md."""
    print('| operation | threads | ×tmpfs | vs bindfs |\n| --- | --- | --- | --- |')
    for line in lines:
        ratios = [line.get(kind, {}).get(name) for kind in ('x_tmpfs', 'vs_bindfs')]
        cells = [line['operation'], str(line['threads'])] + [times(ratio) if ratio else '-' for ratio in ratios]
        print(f'| {" | ".join(cells)} |')


def print_verdict(lines, name):
    """Ahead or behind only where three quarters of the rounds say so."""
    ahead, level, behind = [], [], []
    for line in lines:
        ratio = line.get('vs_bindfs', {}).get(name)
        if ratio:
            into = ahead if ratio['q1'] > 1 else behind if ratio['q3'] < 1 else level
            into.append(f'{line["operation"]}/{line["threads"]} ({ratio["median"]:.2f})')
    if ahead or level or behind:
        print(f'\n{name}: ahead of bindfs on {len(ahead)} of {len(ahead + level + behind)} lines')
    if level:
        print('  NOT ahead, within the spread of 1: ' + ', '.join(level))
    if behind:
        print('  BEHIND: ' + ', '.join(behind))


def print_scale(scale):
    few, many = SCALE
    rows = [['operation', 'on', f'{few:,} entries', f'{many:,} entries', 'ratio']]
    for operation, by_target in scale.items():
        for name, by in by_target.items():
            rows.append([operation, name] + [duration(statistics.median(by[n])) for n in SCALE]
                        + [times(paired(by[many], by[few]))])
    print('\nA directory of a million entries (create + stat + unlink, 1 thread; ratio within a round):')
    table(rows)


# ---- main -------------------------------------------------------------------------------------------

def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', default='build-release', metavar='DIR', help='where shmfs was built (%(default)s)')
    parser.add_argument('--rounds', type=int, metavar='N', help='of each operation (11; quick: 5)')
    parser.add_argument('--ms', type=int, metavar='N', help='of timed work in each (50; quick: 15)')
    parser.add_argument('--threads', default='1,2', metavar='LIST', help='how many at once (%(default)s)')
    parser.add_argument('--quick', action='store_true', help='rough figures in under a minute')
    parser.add_argument('--only', action='append', default=[], metavar='PATTERN',
                        help='operations with PATTERN in their name, or matching it if it has a *; may be repeated')
    parser.add_argument('--driver-opts', action='append', default=[], metavar='OPTIONS',
                        help='one more shmfs with these -o options, e.g. cache=writeback; may be repeated')
    parser.add_argument('--bindfs-opts', action='append', default=[], metavar='OPTIONS',
                        help='one more bindfs with these, e.g. =--multithreaded; may be repeated')
    parser.add_argument('--also', action='append', default=[], metavar='DIR',
                        help='one more shmfs, from another build; may be repeated')
    parser.add_argument('--scale', action='store_true', help='also a directory of 1,000,000 entries against 1,000')
    parser.add_argument('--scale-only', action='store_true', help='nothing else')
    parser.add_argument('--json', metavar='FILE', help='write all figures there')
    parser.add_argument('--markdown', action='store_true', help='print tables as docs/FIGURES.md has them')
    args = parser.parse_args()
    args.scale = args.scale or args.scale_only
    args.rounds = args.rounds or (5 if args.quick else 11)
    args.ms = args.ms or (15 if args.quick else 50)
    args.threads = [int(n) for n in args.threads.split(',')]
    args.build = os.path.abspath(args.build)
    args.fsbench = os.path.join(args.build, 'tests/bench/fsbench')
    if not os.access(args.fsbench, os.X_OK):
        parser.error(f'{args.fsbench} is not there; build first (tools/dev bench does)')
    return args


def wanted(args, operation):
    if COLD.search(operation) and not ROOT:
        say(f'bench: {operation} left out: forgetting names needs root')
        return False
    return not args.only or any(fnmatch.fnmatch(operation, p) if '*' in p else p in operation for p in args.only)


def machine():
    with open('/proc/cpuinfo', encoding='ascii', errors='replace') as file:
        model = re.search(r'model name\s*:\s*(.*)', file.read())
    return {
        'kernel': platform.release(), 'cpus': os.cpu_count(), 'cpu': model.group(1) if model else platform.machine(),
        'load': os.getloadavg()[0], 'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    }


def measure(args, targets, report, runner):
    for operation in OPERATIONS:
        if args.scale_only or not wanted(args, operation):
            continue
        say(f'bench: {operation}')
        for threads, results in runner.operation(targets, operation).items():
            report['lines'].append({'operation': operation, 'threads': threads, **compare(results)})
    for operation in SCALE_OPERATIONS if args.scale else []:
        if wanted(args, operation):
            say(f'bench: {operation}, {SCALE[-1]:,} entries')
            on = [target for target in targets if not target.name.startswith('bindfs')]
            report['scale'][operation] = runner.scale(on, operation)


def show(args, report, names):
    host = report['machine']
    print(f'{host["cpu"]}, {host["cpus"]} CPUs, Linux {host["kernel"]}, load {host["load"]:.1f}; '
          f'medians of {args.rounds} rounds; time of one operation as each thread sees it')
    if host['load'] > host['cpus'] / 4:
        print(f'NOTE: the machine was busy (load {host["load"]:.1f}) when this began: rough figures')
    print('×tmpfs: times as long as tmpfs. vs bindfs: above 1, shmfs is faster. (quartiles)\n')
    if report['lines'] and args.markdown:
        print_markdown(report['lines'], 'shmfs')
    elif report['lines']:
        print_lines(report['lines'], names)
        for name in names:
            if name.startswith('shmfs'):
                print_verdict(report['lines'], name)
    if report['scale']:
        print_scale(report['scale'])


def direct(args, runner):
    """The library without a mount: a program of its own, see tests/bench/direct.c."""
    command = [os.path.join(args.build, 'tests/bench/direct'), '--build', args.build]
    command += [option for option in ('--quick', '--markdown') if vars(args)[option[2:]]]
    print('\nDirect access: calls of libshmfs against system calls on tmpfs', flush=True)
    if subprocess.call(command) != 0:
        runner.failures.append('direct')


def main():
    args = parse_arguments()
    # Whatever ends this, the mounts go.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    place = tempfile.mkdtemp(prefix='shmfs-bench-')
    targets = []
    runner = Runner(args)
    report = {'machine': machine(), 'rounds': args.rounds, 'ms': args.ms, 'lines': [], 'scale': {}}
    began = time.monotonic()
    try:
        try:
            start_targets(args, place, targets)
        except Failed as failure:
            say(f'bench: {failure}')
            runner.failures.append(str(failure))
            if len(targets) < 2:
                return 1
        names = [target.name for target in targets]
        measure(args, targets, report, runner)
    finally:
        for target in reversed(targets):
            if not target.stop():
                runner.failures.append(f'{target.name}: fsck')
        shutil.rmtree(place, ignore_errors=True)
    report['failures'] = runner.failures
    report['seconds'] = time.monotonic() - began
    show(args, report, names)
    print(f'\n{report["seconds"]:.0f} s')
    if not args.only and not args.scale_only:
        direct(args, runner)
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump(report, file, indent=1)
    for failure in runner.failures:
        print(f'FAILED: {failure}')
    return 1 if runner.failures else 0


if __name__ == '__main__':
    sys.exit(main())
