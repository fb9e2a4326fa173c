#!/usr/bin/env bash
# How late a causal encoder emits on mini LibriSpeech, and what makes it earlier at what price in errors.
#
# 10 trainings of 30 to 40 minutes on one core, 6 hours in all: without a restriction, between bounds of an alignment that end 0 to
# 0.32 s after a piece, with FastEmit, and with a delay penalty. BPE of 500, an encoder that sees no future beyond its chunk
# of 4 frames, 0.32 s; decoded as a stream in such chunks. It ends with a table and a picture, exp/delay/{table.md,picture.png}.
# Delays are against the times of pocketsphinx, and of words that are right. Stages 0 and 1 of `run.sh --mini --align --features`
# have to be done before.
#
#   bash delay.sh [--only NAMES] [--list] [--quick] [-- KEY=VALUE …]

set -euo pipefail
source "$(dirname "$0")/local/study.sh"

common+=(model.layers=4 model.causal=true "model.chunk_frames=[4]" "data.tokenizer=$data/bpe_500" optim.lr=2e-3 train.ctc_weight=0.3
    train.steps=4000 train.validate_every=2000 train.save_every=100 train.average_last=3)
decoding=(streaming=true decode.chunk_seconds=0.32)
begin
if [ -z "$list" ]; then
    make_tokenizer bpe_500 kind=bpe vocab_size=500
    # Utterances without times, 40 % of them for a word that the aligner's dictionary lacks, would be free to be late.
    gzip -dc "$trained" | grep '"alignment"' | gzip >"$exp/cuts_timed.jsonl.gz" ||
        fail "$recipe/$trained: has no times of words: bash run.sh --mini --align --features --stop-stage 1"
    trained=$exp/cuts_timed.jsonl.gz
fi

EXACT="loss=optimized loss.gradient_tolerance=1e-3"
# shellcheck disable=SC2086 # words
learn unrestricted $EXACT
for right in 0 1 2 4; do # frames of 0.08 s
    learn ar-$right loss=ar loss.left_frames=25 loss.right_frames=$right
done
learn pruned loss=pruned
learn pruned-alignment loss=pruned loss.bounds=alignment
# shellcheck disable=SC2086 # words
learn fastemit $EXACT loss.fastemit=0.02
learn penalty $EXACT loss.delay_penalty=0.02
learn ar-2-fastemit loss=ar loss.left_frames=25 loss.right_frames=2 loss.fastemit=0.02
tell --picture "$exp/picture.png"
