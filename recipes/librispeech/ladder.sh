#!/usr/bin/env bash
# What each means against little speech brings on mini LibriSpeech: a training for each.
#
# 12 trainings of 25 to 35 minutes on one core and one of 85, 7 hours in all. Of 5.7 M parameters, in steps of 50 s.
# Those that are to make it learn begin from nothing, 3,400 steps, 9 passes over the corpus: the first four build on each other.
# Those against learning by heart, which is what comes then, go on from one training that has heard the corpus 22 times, 2,400 steps
# more, the rate brought down to nothing: each has one option more than `on`, and is held against it. What helps goes into
# conf/mini.yaml, together and for longer. Stages 0 and 1 of `run.sh --mini --align --features` have to be done before.
#
#   bash ladder.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=(model.encoder_dim=192 model.feedforward_dim=768 model.predictor_dim=192 train.save_every=100 train.average_last=3)
begin

# 3,000 utterances of the words of one speaker, up to four of them as they were said, beside those of the corpus, at three
# speeds as these; of --quick others stand for them.
spliced=$data/fbank/cuts_spliced.jsonl.gz
if [ -z "$list" ]; then
    make_tokenizer bpe_500 kind=bpe vocab_size=500
    make_tokenizer bpe_200 kind=bpe vocab_size=200
    if [ -n "$quick" ]; then
        spliced=$evaluated
    elif is_chosen splice; then
        splice_words $data/aligned 3000 shortest=8 longest=30 together=4
        make_features spliced $data/aligned "speed_factors=[0.9,1.1]"
    fi
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
    ON="train.init=$exp/first loss.warmup_batches=0 data.tokenizer=$data/bpe_500 train.ctc_weight=0.3 optim=scaled_adam
        optim.schedule=cosine optim.lr=0.025 optim.warmup_steps=100 train.steps=2400 train.validate_every=1200"
    learn on $ON
    learn masks $ON data.spec_augment.time_masks=5
    learn dropout $ON model.dropout=0.2
    learn context $ON model.context_dropout=0.2
    learn splice $ON "data.train_cuts=[$trained,$spliced]"
    learn views $ON loss.consistency=0.2 train.ctc_consistency=0.2 data.spec_augment.time_masks=5 # beside `masks`
}
tell --against on
