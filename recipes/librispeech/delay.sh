#!/usr/bin/env bash
# How late a causal encoder emits on mini LibriSpeech, and what makes it earlier at what price in errors.
#
# 10 trainings of 8 minutes on one core, an hour and a half in all: without a restriction, between bounds of an alignment that end 0 to
# 0.32 s after a piece, with FastEmit, and with a delay penalty. An encoder that sees no future beyond its chunk of 4 frames, 0.32 s;
# decoded as a stream in such chunks. All begin from exp/small, which sees the whole utterance: from nothing a model of five hours of
# speech has too many errors for its delays to mean anything. It ends with a table and a picture, exp/delay/{table.md,picture.png}.
# Delays are against the times of pocketsphinx, and of words that are right. Before, 40 minutes on two cores:
#
#   bash run.sh --mini --align --features --vocab-size 200 --splice 3000 --nproc 2 --name small -- model=study train.steps=8000
#   bash delay.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=("${continued[@]}" data.spec_augment.time_masks=5 train.steps=2000 train.validate_every=1000)
begin_from exp/small
common+=(model.causal=true "model.chunk_frames=[4]")
decoding=(streaming=true decode.chunk_seconds=0.32)
splice
if [ -z "$list" ]; then
    # Utterances without times, 40 % of them for a word that the aligner's dictionary lacks, would be free to be late.
    gzip -dc "$trained" | grep '"alignment"' | gzip >"$exp/cuts_timed.jsonl.gz" ||
        fail "$recipe/$trained: has no times of words; the head of $0 says what has to be done before"
    trained=$exp/cuts_timed.jsonl.gz,$spliced
fi

EXACT="loss=optimized loss.gradient_tolerance=1e-3"
# shellcheck disable=SC2086 # words
learn unrestricted $EXACT
for right in 0 1 2 4; do # frames of 0.08 s
    learn ar-$right loss=ar loss.left_frames=25 loss.right_frames=$right
done
learn pruned loss=pruned loss.warmup_batches=0
learn pruned-alignment loss=pruned loss.bounds=alignment
# shellcheck disable=SC2086 # words
learn fastemit $EXACT loss.fastemit=0.02
learn penalty $EXACT loss.delay_penalty=0.02
learn ar-2-fastemit loss=ar loss.left_frames=25 loss.right_frames=2 loss.fastemit=0.02
tell --picture "$exp/picture.png"
