#!/usr/bin/env bash
# Train where there is as little as in a container: 64 MB of /dev/shm, a checkout that nobody may write into, no home, a
# TMPDIR that no socket's path can hold, and one CPU's time of however many there are.
#
#   bash scripts/check_container.sh DIR OPTION…
#
# DIR, outside the checkout, is for the run and temporary files; OPTIONs go to `asr train` and name data and a model.
# Needs Linux and root; says so and ends with 77 (skipped) where it cannot run. The exit status is the training's.

set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
skip() { echo "skipped: $*" >&2; exit 77; }
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
case $dir/ in "$root"/*) echo "check_container.sh: error: $dir: lies in the checkout, which will be read-only" >&2; exit 2 ;; esac
unshare --mount true 2>/dev/null || skip "this user may not make mount namespaces (unshare --mount)"
long=$dir/$(printf 't%.0s' $(seq 103))
mkdir -p "$long"
group=/sys/fs/cgroup/cpu/asr-check-$$
if mkdir "$group" 2>/dev/null; then
    trap 'rmdir "$group"' EXIT
    echo 100000 >"$group/cpu.cfs_quota_us"
    join="echo \$\$ >$group/tasks; echo one CPU of quota;"
else
    join="echo no quota: no cgroup of version 1 here;"
fi
[ -x "$root/.venv/bin/asr" ] && PATH="$root/.venv/bin:$PATH"
unshare --mount bash -c "
    set -e
    $join
    mount -t tmpfs -o size=64m tmpfs /dev/shm
    mount --bind '$root' '$root' && mount -o remount,ro,bind '$root'
    ! touch '$root/README.md' 2>/dev/null
    unset HOME XDG_CACHE_HOME NUMBA_CACHE_DIR
    export TMPDIR='$long'
    asr train \"\$@\"
" bash "run=$dir/run" train.device=cpu data.workers=4 "$@"
