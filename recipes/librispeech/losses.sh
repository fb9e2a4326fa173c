#!/usr/bin/env bash
# The four losses on mini LibriSpeech, three seeds each: whether their error rates differ, and what each costs.
#
# 12 trainings of 15 (pruned) to 45 minutes (full) on one core, 5 hours in all. A model of 2.2 M parameters, eight feature frames
# to one, 200 pieces, 3,600 steps of 50 s: small enough that `full` has its grid of logits for the very batches of the others in 1 GB.
# AdamW with its rate brought down to nothing, for half-way through a schedule losses differ by where they are in it. No frame losses
# and no second view: nothing but the loss differs. `ar` restricts the 60 % of the utterances that have times of their words.
# Stages 0 and 1 of `run.sh --mini --align --features` have to be done before.
#
#   bash losses.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=(model.layers=4 "data.tokenizer=$data/bpe_200" optim.lr=2e-3 train.ctc_weight=0.3
    train.steps=3600 train.validate_every=900 train.save_every=100 train.average_last=3)
begin
[ -n "$list" ] || make_tokenizer bpe_200 kind=bpe vocab_size=200

for seed in 0 1 2; do # a first table after four trainings
    learn full-$seed loss=full train.seed=$seed
    learn optimized-$seed loss=optimized loss.gradient_tolerance=1e-3 train.seed=$seed
    learn ar-$seed loss=ar loss.left_frames=12 loss.right_frames=3 train.seed=$seed
    learn pruned-$seed loss=pruned train.seed=$seed
done
tell
