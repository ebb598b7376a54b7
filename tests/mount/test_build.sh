#!/bin/bash
# SPDX-License-Identifier: MIT
# This project, built on the mount from a copy of the checkout, and its unit suite run there.
. "$(dirname "$0")/lib.sh"

# What git knows of the checkout, uncommitted work included; without git, everything but builds.
mkdir src
if git -c safe.directory='*' -C "$T_SRC" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git -c safe.directory='*' -C "$T_SRC" ls-files -z -co --exclude-standard |
        tar -C "$T_SRC" --null --ignore-failed-read --warning=no-failed-read -T - -cf - | tar -C src -xf -
else
    tar -C "$T_SRC" --exclude=./.git --exclude='./build*' -cf - . | tar -C src -xf -
fi
[ -f src/meson.build ] || fail "no meson.build in $T_SRC"
chmod -R a+rX src

build() {
    cp -r "$W/src" .
    cd src
    meson setup ../build >../setup.log 2>&1 || { cat ../setup.log >&2 && false; }
    ninja -C ../build >../ninja.log 2>&1 || { tail -40 ../ninja.log >&2 && false; }
    ../build/fs/shmfs --version
    meson test -C ../build --suite unit --print-errorlogs >../test.log 2>&1 || { tail -60 ../test.log >&2 && false; }
    grep -E '^(Ok|Fail)' ../test.log
    # Nothing to do is what a second run must find: times on the mount are in order.
    ninja -C ../build -n | grep -q 'no work to do'
}
each_way build
