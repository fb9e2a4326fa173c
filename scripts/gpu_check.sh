#!/usr/bin/env bash
# The first hour on a GPU: are the kernels right there, and how fast is what uses them?
#
#   bash scripts/gpu_check.sh OUT      a few minutes; tables and logs in the folder OUT
#
# Needs Python with torch, triton, numba and pytest; with lhotse, hydra-core and kaldialign it also times a training step
# and searches. Ends with a line of PASSED/TRIED for every check. Exit code 0: all passed; 1: one did not; 3: what could
# be done passed, but something could not be done here, such as anything at all on a GPU where there is none.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
python=python3
[ ! -x "$root/.venv/bin/python" ] || python=$root/.venv/bin/python
exec "$python" "$root/scripts/gpu_check.py" "$1"
