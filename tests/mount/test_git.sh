#!/bin/bash
# SPDX-License-Identifier: MIT
# git on the mount: a clone of this repository, fsck, gc, and some daily work.
. "$(dirname "$0")/lib.sh"
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=$W/gitconfig
cat >"$GIT_CONFIG_GLOBAL" <<'END'
[safe]
    directory = *
[user]
    name = A Tester
    email = tester@example.org
[init]
    defaultBranch = main
[advice]
    detachedHead = false
END

# The origin: this repository, or if it is an export without history, one made of its files.
make_origin() {
    if git -C "$T_SRC" rev-parse -q --verify HEAD >/dev/null 2>&1; then
        git clone -q --bare "file://$T_SRC" origin.git 2>/dev/null && return
        rm -rf origin.git
    fi
    note "the checkout has no commits: a repository is made from its files"
    local n=0 part
    mkdir work
    git -C work init -q
    for part in lib fs mkfs tools tests docs; do
        [ -d "$T_SRC/$part" ] || continue
        cp -r "$T_SRC/$part" work/
        git -C work add -A
        git -C work commit -q --allow-empty -m "add $part"
    done
    cp -r /usr/include/linux work/headers 2>/dev/null && git -C work add headers && git -C work commit -q -m "headers"
    # History enough that gc has deltas to find.
    while [ $n -lt 40 ]; do
        n=$((n + 1))
        seq $n $((n + 2000)) >work/numbers
        git -C work add numbers
        git -C work commit -q -m "numbers $n"
    done
    git clone -q --bare work origin.git
    rm -rf work
}
make_origin
chmod -R a+rX origin.git

daily_work() {
    git clone -q "file://$W/origin.git" clone
    cd clone
    git fsck --strict --no-dangling
    git status --porcelain >../status
    [ ! -s ../status ]
    [ "$(git rev-parse HEAD)" = "$(git -C "$W/origin.git" rev-parse HEAD)" ]
    git checkout -q -b topic
    seq 1000 >new-file
    git add new-file
    git commit -q -m "a new file"
    git mv new-file moved
    git commit -q -am "moved"
    git checkout -q - # and back
    git merge -q topic
    git stash list
    git gc -q --aggressive --prune=now
    git fsck --full --strict
    [ "$(git count-objects | cut -d' ' -f1)" = 0 ]
    git worktree add -q ../tree HEAD
    diff -r --exclude=.git . ../tree
    # A clone by hard links, and by packs over a pipe, from the mount to the mount.
    git clone -q --local . ../local
    git -C ../local fsck --full
    git clone -q --mirror "file://$MNT/clone" ../mirror
    git -C ../mirror fsck --full
    cd ..
    rm -rf clone tree local mirror status
    [ -z "$(ls -A)" ]
}
each_way daily_work
