#!/usr/bin/env bash
# What keeps a model from learning little speech by heart: a training for each means, all from one that has begun to.
#
# 6 trainings of 25 to 50 minutes on one core, 3 hours in all. They go on from exp/ladder/first (`bash ladder.sh --only first`), which
# has heard mini LibriSpeech 22 times: 2,400 steps more, the rate brought down to nothing. Each has one option more than `plain`, and is
# held against it. Stages 0 and 1 of `run.sh --mini --align --features` have to be done before.
#
#   bash regularise.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

first=exp/ladder/first
common+=(model=mini model.dropout=0.1 "data.tokenizer=$data/bpe_500" optim=scaled_adam optim.schedule=cosine optim.lr=0.025
    optim.warmup_steps=100 loss.warmup_batches=0 train.ctc_weight=0.3 train.steps=2400 train.validate_every=1200
    train.save_every=100 train.average_last=3)
begin

# 3,000 utterances of the words of one speaker, up to four of them as they were said, beside those of the corpus, at three
# speeds as these; of --quick others stand for them.
spliced=$data/fbank/cuts_spliced-3000.jsonl.gz
if [ -n "$quick" ]; then
    spliced=$evaluated
    learn first
    first=$exp/first
elif [ -z "$list" ]; then
    [ -d "$first" ] || fail "$recipe/$first: not there, and all of these go on from it: bash ladder.sh --only first"
    if is_chosen splice; then
        splice_words $data/aligned spliced-3000 3000 shortest=8 longest=30 together=4
        make_features spliced-3000 $data/aligned "speed_factors=[0.9,1.1]"
    fi
fi
common+=("train.init=$first")

learn plain
learn masks data.spec_augment.time_masks=5
learn dropout model.dropout=0.2
learn context model.context_dropout=0.2
learn splice "data.train_cuts=[$trained,$spliced]"
learn views loss.consistency=0.2 train.ctc_consistency=0.2 data.spec_augment.time_masks=5 # beside `masks`; twice the time
tell --against plain
