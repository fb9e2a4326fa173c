#!/usr/bin/env bash
# OpenSLR 1: eight times "yes" or "no" in Hebrew, one speaker, 31 utterances to train on.
#
# About 3 minutes and 1.2 GB on 2 CPU cores. See README.md for results.
#
#   stage 0  download (or --corpus-dir DIR, the folder that holds the wav files), manifests
#                                        data/cuts_{train,test}.jsonl.gz
#   stage 1  new strings of the words    data/cuts_spliced.jsonl.gz
#            tokenizer and features      data/bpe, data/fbank/cuts_{train,spliced,test}.jsonl.gz
#   stage 2  train                       exp/NAME
#   stage 3  decode and score            exp/NAME/decode_test

set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
parse_options "$@"
cd "$recipe"

if stage_is 0 "manifests"; then
    prepare_corpus
fi

if stage_is 1 "new strings of the words, tokenizer and features"; then
    asr tokenizer "cuts=[data/cuts_train.jsonl.gz]" output=data/bpe kind=bpe vocab_size=13
    splice_words data spliced 2400 edge_seconds=2
    make_features train data "speed_factors=[0.9,1.1]"
    make_features spliced data "speed_factors=[0.9,1.1]"
    make_features test data
fi

if stage_is 2 "train"; then
    asr train --config-dir conf --config-name yesno run="exp/$name" ${hydra[@]+"${hydra[@]}"}
fi

if stage_is 3 "decode and score"; then
    asr decode run="exp/$name" cuts=data/cuts_test.jsonl.gz output="exp/$name/decode_test" name=yesno_test checkpoint=average
fi
