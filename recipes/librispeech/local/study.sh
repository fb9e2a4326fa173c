# What the studies of this recipe share: their options, mini LibriSpeech with features and times of words, and what all of their
# trainings have. Sourced; stages 0 and 1 of `run.sh --mini --align --features` have to be done before.

source "$(dirname "$0")/../../local/run.sh"
source "$root/local/study.sh"
parse_options "$@"
cd "$recipe" || exit

data=data/mini
trained=$data/fbank/cuts_train.jsonl.gz validated=$data/fbank/cuts_dev.jsonl.gz evaluated=$data/aligned/cuts_dev.jsonl.gz
common=(--config-dir conf --config-name study "data.speed_factors=[]" data.workers=0 data.max_seconds=50
    model.subsampling=8 optim.warmup_steps=500 train.log_every=50)
