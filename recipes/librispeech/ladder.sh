#!/usr/bin/env bash
# What each means against little speech brings on mini LibriSpeech: a training for each, of the same cost.
#
# 12 trainings of 40 minutes on one core, 8 hours in all: 3,400 steps of 50 s, 5.7 M parameters, 9 passes over the corpus. The first
# three build on each other; each one after has one option more than the third, `frames`, and is held against it. What helps goes into
# conf/mini.yaml, together and for longer. Stages 0 and 1 of `run.sh --mini --align --features` have to be done before.
#
#   bash ladder.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=(model.encoder_dim=192 model.feedforward_dim=768 model.predictor_dim=192
    "data.tokenizer=$data/bpe_500" optim.lr=1e-3 train.ctc_weight=0
    train.steps=3400 train.validate_every=850 train.save_every=170)
begin

# 1,500 utterances of words of one speaker in a new order, beside those of the corpus; of --quick others stand for them.
spliced=$data/fbank/cuts_spliced.jsonl.gz
if [ -z "$list" ]; then
    make_tokenizer bpe_500 kind=bpe vocab_size=500
    make_tokenizer bpe_200 kind=bpe vocab_size=200
    make_tokenizer unigram_500 kind=unigram vocab_size=500
    if [ -n "$quick" ]; then
        spliced=$evaluated
    elif is_chosen splice; then
        splice_words $data/aligned 1500 shortest=8 longest=25
        make_features spliced $data/aligned
    fi
fi

learn base                                                   # AdamW, to a cosine's end; no auxiliary loss
learn ctc train.ctc_weight=0.3                               # … and CTC
FRAMES="train.ctc_weight=0.3 train.frame_weight=0.3 train.frame_batches=1700"
learn frames $FRAMES                                         # … and the pieces of frames, for half of the training
learn scaled-adam $FRAMES optim=scaled_adam optim.lr=0.045 optim.schedule=cosine
learn views $FRAMES loss.consistency=0.2 train.ctc_consistency=0.2 data.spec_augment.time_masks=5
learn masks $FRAMES data.spec_augment.time_masks=5           # what `views` has more than two views
learn bpe-200 $FRAMES data.tokenizer=data/mini/bpe_200
learn unigram $FRAMES data.tokenizer=data/mini/unigram_500
learn sampling $FRAMES data.tokenizer=data/mini/unigram_500 data.sample_pieces=0.5
learn context $FRAMES model.context_dropout=0.2
learn dropout $FRAMES model.dropout=0.2
learn splice $FRAMES "data.train_cuts=[$trained,$spliced]"
tell --against frames
