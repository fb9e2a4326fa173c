#!/usr/bin/env bash
# Connected digits, synthesised: the whole path from nothing to a word error rate, in minutes.
#
# About 4 minutes and 2 GB on 2 CPU cores. The corpus is spoken by espeak-ng in some 500 voices;
# the test part has voices and digit strings that training never hears. See README.md for results.
#
#   stage 0  synthesise the corpus       data/cuts_{train,dev,test}.jsonl.gz
#   stage 1  tokenizer and features      data/bpe, data/fbank/cuts_{train,dev}.jsonl.gz
#   stage 2  train                       exp/NAME
#   stage 3  decode and score            exp/NAME/decode_test

set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
parse_options "$@"
cd "$recipe"

if stage_is 0 "synthesise the corpus"; then
    python local/prepare.py --output "$recipe/data"
fi

if stage_is 1 "tokenizer and features"; then
    asr tokenizer "cuts=[data/cuts_train.jsonl.gz]" output=data/bpe kind=bpe vocab_size=60
    make_features train data
    make_features dev data
fi

if stage_is 2 "train"; then
    asr train --config-dir conf --config-name digits run="exp/$name" ${hydra[@]+"${hydra[@]}"}
fi

if stage_is 3 "decode and score"; then
    asr decode run="exp/$name" cuts=data/cuts_test.jsonl.gz output="exp/$name/decode_test" name=digits_test checkpoint=average
fi
