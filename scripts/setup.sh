#!/usr/bin/env bash
# Make .venv with the project and everything its recipes and tests need, or reuse it when it is current.
# Needs bash and Python >= 3.10 (PYTHON=… names one); no compiler, no GPU. About 6 GB and 2 minutes; 2.7 GB
# where PIP_EXTRA_INDEX_URL names an index of PyTorch without CUDA (docs/install.md).
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import ensurepip, tarfile, venv; tarfile.data_filter; import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "setup.sh: error: no Python >= 3.10.12 (3.11: >= 3.11.4) with venv and ensurepip found: install one, or set PYTHON=/path/to/python3" >&2
    exit 2
}

python=$(find_python)
wanted="$("$python" -VV) $(pwd) $(cksum <pyproject.toml)"
if [ -x .venv/bin/asr ] && [ "$(cat .venv/current 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

echo "== setting up .venv with $("$python" --version): about 2 minutes"
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[digits,align,score,lm,dask,slurm,export,docs,dev]"
printf '%s\n' "$wanted" >.venv/current
