#!/usr/bin/env bash
# What keeps a model from learning little speech by heart: a training for each means, all from one that has begun to.
#
# 6 trainings of 8 to 16 minutes on one core, an hour in all. They go on from exp/first, which has heard mini LibriSpeech 22 times: 2,400
# steps more, the rate brought down to nothing. Each has one option more than `plain`, and is held against it. Before:
#
#   bash run.sh --mini --align --features --vocab-size 200 --name first -- model=study train.steps=8000 data.spec_augment.time_masks=2
#   bash regularise.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=("${continued[@]}" loss.warmup_batches=0 train.steps=2400 train.validate_every=1200)
begin_from exp/first
! is_chosen splice || splice

learn plain
learn masks data.spec_augment.time_masks=5
learn dropout model.dropout=0.2
learn context model.context_dropout=0.2
learn splice "data.train_cuts=[$trained,$spliced]"
learn views loss.consistency=0.2 train.ctc_consistency=0.2 data.spec_augment.time_masks=5 # beside `masks`; twice the time
tell --against plain
