#!/usr/bin/env bash
# Connected digits, synthesised: the whole path from nothing to a word error rate, in minutes.
#
# About 4 minutes and 2 GB on 2 CPU cores. The corpus is spoken by espeak-ng in some 500 voices;
# the test part has voices and digit strings that training never hears. See README.md for results.
#
#   --numerals       the same speech, transcribed in Chinese numerals without blanks: a corpus of a script that has none
#
#   stage 0  synthesise the corpus       DATA/cuts_{train,dev,test}.jsonl.gz; DATA is data, or data/numerals
#   stage 1  tokenizer and features      DATA/bpe or DATA/char, DATA/fbank/cuts_{train,dev}.jsonl.gz
#   stage 2  train                       exp/NAME; with --numerals NAME is numerals, if not given
#   stage 3  decode and score            exp/NAME/decode_test

set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
switches="numerals"
parse_options "$@"
cd "$recipe"

config=digits units=(data/bpe kind=bpe vocab_size=60)
[ -z "$numerals" ] || data=data/numerals config=numerals units=(data/numerals/char kind=char)
[ -z "$numerals" ] || [ "$name" != transducer ] || name=numerals

if stage_is 0 "synthesise the corpus"; then
    python local/prepare.py --output "$recipe/$data" ${numerals:+--numerals}
fi

if stage_is 1 "tokenizer and features"; then
    asr tokenizer "cuts=[$data/cuts_train.jsonl.gz]" "output=${units[0]}" "${units[@]:1}"
    make_features train "$data"
    make_features dev "$data"
fi

if stage_is 2 "train"; then
    asr train --config-dir conf --config-name "$config" run="exp/$name" ${hydra[@]+"${hydra[@]}"}
fi

if stage_is 3 "decode and score"; then
    asr decode run="exp/$name" "cuts=$data/cuts_test.jsonl.gz" output="exp/$name/decode_test" name="${config}_test" checkpoint=average
fi
