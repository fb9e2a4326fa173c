#!/usr/bin/env bash
# Set up, then lint, check types and run the whole test suite, in two processes. Options go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/ruff check .
.venv/bin/mypy
# One thread each, which wait without spinning: there may be no more than two cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-1}" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
.venv/bin/python -m pytest --numprocesses=2 --dist=worksteal "$@"
