#!/usr/bin/env bash
# The four losses on mini LibriSpeech, three seeds each: whether their error rates differ, and what each costs.
#
# 12 trainings of 10 (pruned) to 35 minutes (full) on one core, 3 hours 40 in all. A model of 2.2 M parameters, eight feature frames
# to one, 200 pieces, 3,000 steps of 50 s: small enough that `full` has its grid of logits for the very batches of the others in 1 GB.
# ScaledAdam with its rate brought down to nothing, for half-way through a schedule losses differ by where they are in it. The auxiliary
# losses, CTC's and for half of the training that of frames, are the recipe's, and the same in all: nothing but the loss differs.
# `ar` restricts the 60 % of the utterances that have times of their words.
# Stages 0 and 1 of `run.sh --mini --align --features --vocab-size 200` have to be done before.
#
#   bash losses.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=(optim=scaled_adam optim.lr=0.045 optim.schedule=cosine train.ctc_weight=0.3 train.frame_weight=0.3 train.frame_batches=1500
    train.steps=3000 train.validate_every=1000 train.save_every=100 train.average_last=3)
begin

for seed in 0 1 2; do # a first table after four trainings
    learn full-$seed loss=full train.seed=$seed
    learn optimized-$seed loss=optimized loss.gradient_tolerance=1e-3 train.seed=$seed
    learn ar-$seed loss=ar loss.left_frames=12 loss.right_frames=3 train.seed=$seed
    learn pruned-$seed loss=pruned train.seed=$seed
done
tell
