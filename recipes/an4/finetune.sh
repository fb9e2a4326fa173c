#!/usr/bin/env bash
# What a trained model is worth to AN4: trainings of as many steps that begin from it, and from nothing.
#
# From nothing and from the model, in the model's own BPE and in characters, two seeds each; then, of the model, parts alone
# are trained. Ten minutes each on one CPU core; the same command goes on where it was. It ends with a table, of which
# docs/finetuning.md has the rates. Stages 0 and 1 of run.sh have to be done before.
#
#   bash finetune.sh --base DIR [--only NAMES] [--list] [-- KEY=VALUE …]
#
# DIR: a run of conf/finetune.yaml's architecture, or a package of one that is no zip file.

set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
source "$root/local/study.sh"
base=
switches=list settings="$settings base" # no --quick: a tiny model cannot begin from this one
parse_options "$@"
resolve base
cd "$recipe"

trained=data/fbank/cuts_train.jsonl.gz,data/fbank/cuts_spliced.jsonl.gz validated=data/fbank/cuts_dev.jsonl.gz
evaluated=data/aligned/cuts_test.jsonl.gz
common=(--config-dir conf --config-name finetune)
begin

BPE="data.tokenizer=$base/tokenizer"
CHARACTERS="data.tokenizer=data/char train.ctc_weight=0" # CTC would need a frame, here of 0.08 s, for each character
BEGUN="train.init=$base optim.lr=5e-4"
LORA="train.init=$base train.lora.rank=8 optim.lr=2e-3"

for seed in 0 1; do
    learn bpe-scratch-$seed $BPE train.seed=$seed
    learn char-scratch-$seed $CHARACTERS train.seed=$seed
    learn bpe-all-$seed $BPE $BEGUN train.seed=$seed
    learn char-all-$seed $CHARACTERS $BEGUN train.seed=$seed
done
for units in bpe char; do
    words=$BPE
    [ $units = bpe ] || words=$CHARACTERS
    learn $units-heads $words $BEGUN "train.freeze=[encoder]"
    learn $units-lora $words $LORA
    learn $units-upper $words $BEGUN "train.freeze=[encoder.subsampling,'encoder.layers.[0-2]']"
    learn $units-slower $words $BEGUN "optim.lr_factors={encoder.*: 0.2}"
done
tell --against bpe-scratch
