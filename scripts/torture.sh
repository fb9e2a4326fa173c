#!/usr/bin/env bash
# Break trainings, runs and disks for real, and print how many of the attempts were survived, a line for each kind.
#
#   bash scripts/torture.sh [--quick] [ROW…]
#
# ROWs are the files of scripts/torture that end with `NAME: PASSED/TRIED`; without any, all. --quick: a part of each,
# less than 10 minutes on 2 CPU cores. What each attempt came to is in torture/ROW.log as soon as it is known, and the table
# in torture/table.txt; rows that were not asked for keep what they came to before. The exit status is 0 only if all
# passed. Linux, and root for `disk`.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/asr ] && PATH="$PWD/.venv/bin:$PATH"
export PYTHONPATH="$PWD" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-1}"

quick=
rows=
for word in "$@"; do
    case $word in
    --quick) quick=--quick ;;
    *) rows="$rows $word" ;;
    esac
done
[ -n "$rows" ] || rows=$(grep -l '^def main' scripts/torture/*.py | sed 's|.*/||; s|\.py$||' | sort)
mkdir -p torture

for row in $rows; do
    [ -f "scripts/torture/$row.py" ] || { echo "torture.sh: error: $row: no such row" >&2; exit 2; }
    echo "== $row" >&2
    python "scripts/torture/$row.py" $quick 2>&1 | tee "torture/$row.log" >&2 || true
    tail -n 1 "torture/$row.log" | grep -qE "^$row: [0-9]+/[0-9]+$" || echo "$row: 0/1" >>"torture/$row.log" # it failed itself
done

for log in torture/*.log; do
    tail -n 1 "$log"
done >torture/table.txt
cat torture/table.txt
awk -F '[:/ ]+' '$2 != $3 || $3 == 0 {failed = 1} END {exit failed}' torture/table.txt
