#!/usr/bin/env bash
# What makes a model learn from little speech: mini LibriSpeech from nothing, a training for each means.
#
# 7 trainings of 8 minutes on one core, an hour in all: the model of losses.sh, 2,400 steps of 50 s, 7 passes over the corpus. The
# first four build on each other, the others on the fourth. What helps goes into conf/mini.yaml, together and for longer; what shows
# only when a corpus has been heard often is in regularise.sh. Stages 0 and 1 of `run.sh --mini --align --features --vocab-size 200`
# have to be done before.
#
#   bash ladder.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=(train.steps=2400 train.validate_every=1200 train.save_every=100 train.average_last=3)
begin
if [ -z "$list" ]; then
    make_tokenizer bpe_500 kind=bpe vocab_size=500
    make_tokenizer unigram_200 kind=unigram vocab_size=200
fi

ADAMW="optim.lr=2e-3"
SCALED="optim=scaled_adam optim.lr=0.045 optim.schedule=cosine"
FRAMES="train.ctc_weight=0.3 train.frame_weight=0.3 train.frame_batches=1200"
# shellcheck disable=SC2086 # words
{
    learn base $ADAMW train.ctc_weight=0    # to a cosine's end; no auxiliary loss
    learn ctc $ADAMW train.ctc_weight=0.3   # … and CTC
    learn frames $ADAMW $FRAMES             # … and the pieces of frames, for half of the training
    learn scaled-adam $SCALED $FRAMES       # … and another optimiser
    learn bpe-500 $SCALED $FRAMES "data.tokenizer=$data/bpe_500" # … larger units
    learn unigram $SCALED $FRAMES "data.tokenizer=$data/unigram_200" data.sample_pieces=0.5 # … pieces drawn anew each time
    learn aligned $SCALED $FRAMES loss.aligned_batches=1200 # … paths near the alignment, for half of the training
}
tell --against scaled-adam
