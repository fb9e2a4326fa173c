#!/usr/bin/env bash
# What restricting and regularising the loss does to errors and to emission delay: 22 trainings of 4 minutes on a core.
#
# Stages 0 and 1 of run.sh have to be done before. It ends with a table and a picture, exp/alignment/{table.md,picture.png}.
#
#   bash alignment.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/../../local/alignment.sh"

common=(--config-dir conf --config-name digits)
trained=data/fbank/cuts_train.jsonl.gz validated=data/fbank/cuts_dev.jsonl.gz evaluated=data/cuts_test.jsonl.gz
study_alignment
