#!/usr/bin/env bash
# LibriSpeech: English audio books, from mini LibriSpeech on a laptop to 960 hours on several GPUs.
#
# --mini: 3 minutes and 2 GB on 2 CPU cores for one short epoch (-- model=tiny train.steps=45), an evening for
# the config as it is, which wants --align --features --splice 6000 --nproc 2. 100h is for one GPU, 960h for eight: neither has
# been run yet. See README.md.
#
#   --set SET        what to train on: mini (5 hours), 100h (train-clean-100), 960h (default: 100h)
#   --mini           the same as --set mini
#   --vocab-size N   pieces of the tokenizer (default: 500)
#   --align          find the times of the words (for loss=ar, loss.bounds=alignment and emission delays)
#   --splice N       train on N new utterances of the words of others, too (with --align)
#   --lm             decode with a beam of 8, a 4-gram and the words of the training transcripts, too
#   --features       compute features beforehand, at several speeds, instead of on the fly
#   --speeds LIST    which, beside that of the recording (default: 0.9,1.1, which is what --splice's have in any case)
#   --musan DIR      mix noise into half of the training utterances, of a copy of MUSAN ("download": of a download, 11 GB)
#   --rooms SHARE    put this share of the training utterances into simulated rooms
#   --shar           train from tar files, read from front to back (Lhotse Shar): for a shared or slow file system
#   --jobs N         processes that prepare (default: 2)
#   --scheduler URL  instead: the workers of a Dask scheduler, tcp://HOST:PORT, on any machines that share this directory
#
#   stage 0  download (or --corpus-dir DIR, the folder that holds train-clean-5/ and so on), manifests
#                                        data/SET/cuts_{train,dev,test-clean,test-other}.jsonl.gz
#   stage 1  tokenizer                   data/SET/bpe_N
#            with --lm                   data/SET/bpe_N_4gram.arpa.gz, data/SET/words.txt
#            with --align                data/SET/aligned/cuts_*.jsonl.gz
#            with --splice               data/SET/aligned/cuts_spliced-N.jsonl.gz
#            with --features             data/SET/fbank/cuts_{train,spliced-N,dev}.jsonl.gz; fbank-LIST/ of other speeds
#            with --shar                 shar_train beside the training manifest
#   stage 2  train                       exp/NAME
#   stage 3  decode and score, average of the last checkpoints, with each search there is
#                                        exp/NAME/decode_{dev,test-clean,test-other}_SEARCH

set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
set=100h vocab_size=500 splice=0 speeds= musan= rooms=0 jobs=2 scheduler=
switches="mini align lm features shar" settings="set vocab-size splice speeds musan rooms jobs scheduler"
parse_options "$@"
[ -z "$musan" ] || [ "$musan" = download ] || resolve musan
[ -z "$features" ] || [ "$musan$rooms" = 0 ] || fail "--features cannot go with --musan and --rooms, which need the audio"
[ "$splice" = 0 ] || [ -n "$align" ] || fail "--splice $splice needs the times of words: give --align, too"
[ -z "$speeds" ] || [ -n "$features" ] || fail "--speeds $speeds is what --features are computed at: give that, too"
[ "$splice" = 0 ] || [ -z "$shar" ] || fail "--splice cannot go with --shar"
cd "$recipe"

[ -z "$mini" ] || set=mini
[ -f "conf/$set.yaml" ] || fail "--set $set: choose mini, 100h or 960h"
splits="train dev test-clean test-other" evaluated="test-clean test-other"
[ "$set" != mini ] || splits="train dev" evaluated=dev # mini LibriSpeech has no test part
data=data/$set
cuts=$data${align:+/aligned}
fbank=$data/fbank${speeds:+-$speeds}
trained=$cuts
[ -z "$features" ] || trained=$fbank

if stage_is 0 "manifests"; then
    for split in $splits; do
        [ -f "$data/cuts_$split.jsonl.gz" ] || prepare "$data" --set "$set"
    done
    [ -z "$musan" ] || prepare_noise "$musan"
fi

workers=("jobs=$jobs" "scheduler=$scheduler")
if stage_is 1 "tokenizer${lm:+, n-gram}${align:+, times of the words}${features:+, features}${shar:+, tar files}"; then
    make_tokenizer "bpe_$vocab_size" kind=bpe vocab_size="$vocab_size"
    [ -z "$lm" ] || make_lm "bpe_$vocab_size" 4
    for split in ${align:+$splits}; do
        align_words "$split" "${workers[@]}"
    done
    [ "$splice" = 0 ] || splice_words "$cuts" "spliced-$splice" "$splice" shortest=8 longest=30 together=4
    if [ -n "$features" ]; then
        make_features train "$cuts" "speed_factors=[${speeds:-0.9,1.1}]" "${workers[@]}"
        # Whatever the speeds of the corpus: at as many, what was spliced would be most of what is heard.
        [ "$splice" = 0 ] || make_features "spliced-$splice" "$cuts" "speed_factors=[0.9,1.1]" "${workers[@]}"
        make_features dev "$cuts" "${workers[@]}"
    fi
    [ -z "$shar" ] || make_shar train "$trained" "${workers[@]}"
fi

if stage_is 2 "train"; then
    source=$trained/cuts_train.jsonl.gz
    [ "$splice" = 0 ] || source=$source,$trained/cuts_spliced-$splice.jsonl.gz
    [ -z "$shar" ] || source=$trained/shar_train
    asr train --config-dir conf --config-name "$set" run="exp/$name" "data.tokenizer=$data/bpe_$vocab_size" \
        "data.train_cuts=[$source]" "data.valid_cuts=[$trained/cuts_dev.jsonl.gz]" \
        ${features:+"data.speed_factors=[]"} ${musan:+"data.noise.cuts=[data/musan/cuts_noise.jsonl.gz]"} \
        ${shar:+data.lookahead=2000} "data.rooms.probability=$rooms" ${hydra[@]+"${hydra[@]}"}
fi

if stage_is 3 "decode and score"; then
    known=("decode.lm=$data/bpe_${vocab_size}_4gram.arpa.gz" decode.lm_weight=0.1 decode.internal_lm_weight=0.1
        "decode.word_list=$data/words.txt")
    for search in greedy beam ${lm:+lm}; do
        options=("decode=$search")
        [ "$search" != lm ] || options=(decode=beam decode.beam=8 "${known[@]}")
        [ "$search" = lm ] || [ -f "$root/conf/decode/$search.yaml" ] || continue
        for split in $evaluated; do
            decode_once "$cuts/cuts_$split.jsonl.gz" "decode_${split}_$search" "librispeech_${split}_$search" "${options[@]}"
        done
    done
fi
