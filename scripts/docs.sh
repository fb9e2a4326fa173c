#!/usr/bin/env bash
# Set up, then make the site of the documents: docs/_build/index.html. A warning is an error. Options go to Sphinx.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/python -m sphinx -E -W --keep-going -q -c docs . docs/_build "$@"
echo "== docs/_build/index.html"
