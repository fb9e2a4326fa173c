#!/usr/bin/env bash
# CMU AN4: spelling, dates and numbers, 42 minutes of real speech.
#
# About 25 minutes and 2.5 GB on 2 CPU cores. See README.md for results.
#
#   stage 0  download (or --corpus-dir DIR, the folder that holds etc/ and wav/), manifests
#                                        data/cuts_{train,dev,test}.jsonl.gz
#   stage 1  times of the words          data/aligned/cuts_{train,dev,test}.jsonl.gz
#            new strings of the words    data/aligned/cuts_spliced.jsonl.gz
#            tokenizer and features      data/char, data/fbank/cuts_{train,spliced,dev}.jsonl.gz
#   stage 2  train                       exp/NAME
#   stage 3  decode and score            exp/NAME/decode_test

set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
parse_options "$@"
cd "$recipe"

if stage_is 0 "manifests"; then
    prepare_corpus
fi

if stage_is 1 "times of the words, new strings of them, tokenizer and features"; then
    for split in train dev test; do
        align_words $split
    done
    splice_words data/aligned spliced 1200
    asr tokenizer "cuts=[data/cuts_train.jsonl.gz]" output=data/char kind=char
    make_features train data/aligned "speed_factors=[0.9,1.1]"
    make_features spliced data/aligned "speed_factors=[0.9,1.1]"
    make_features dev data/aligned
fi

if stage_is 2 "train"; then
    asr train --config-dir conf --config-name an4 run="exp/$name" ${hydra[@]+"${hydra[@]}"}
fi

if stage_is 3 "decode and score"; then
    asr decode run="exp/$name" cuts=data/aligned/cuts_test.jsonl.gz output="exp/$name/decode_test" name=an4_test
fi
