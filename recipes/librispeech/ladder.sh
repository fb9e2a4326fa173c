#!/usr/bin/env bash
# What makes a model learn from little speech: mini LibriSpeech from nothing, a training for each means.
#
# 6 trainings of 35 minutes on one core and one of 85, 5 hours in all: 5.7 M parameters, in steps of 50 s; 3,400 steps, 9 passes over
# the corpus. The first four build on each other. The last, 22 passes, is what regularise.sh goes on from. What helps goes into
# conf/mini.yaml, together and for longer. Stages 0 and 1 of `run.sh --mini --align --features` have to be done before.
#
#   bash ladder.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=(model=mini model.dropout=0.1 train.save_every=100 train.average_last=3)
begin
if [ -z "$list" ]; then
    make_tokenizer bpe_500 kind=bpe vocab_size=500
    make_tokenizer bpe_200 kind=bpe vocab_size=200
fi

BEGINNING="data.tokenizer=$data/bpe_500 train.steps=3400 train.validate_every=1700"
FRAMES="train.ctc_weight=0.3 train.frame_weight=0.3 train.frame_batches=1700"
SCALED="optim=scaled_adam optim.lr=0.045"
# shellcheck disable=SC2086 # words
{
    learn base $BEGINNING optim.lr=1e-3 train.ctc_weight=0                 # AdamW, to a cosine's end; no auxiliary loss
    learn ctc $BEGINNING optim.lr=1e-3 train.ctc_weight=0.3                # … and CTC
    learn frames $BEGINNING optim.lr=1e-3 $FRAMES                          # … and the pieces of frames, for half of the training
    learn scaled-adam $BEGINNING $FRAMES $SCALED optim.schedule=cosine     # … and another optimiser
    learn aligned $BEGINNING optim.lr=1e-3 $FRAMES loss.aligned_batches=1700    # `frames`, near the alignment for as long
    learn bpe-200 $BEGINNING optim.lr=1e-3 $FRAMES data.tokenizer=$data/bpe_200 # `frames`, of smaller units
    learn first data.tokenizer=$data/bpe_500 $FRAMES $SCALED train.steps=8000 train.validate_every=2000
}
tell --against frames
