# What the studies of this recipe share: their options, mini LibriSpeech with features and times of words, and what all of their
# trainings have. Sourced; stages 0 and 1 of `run.sh --mini --align --features --vocab-size 200` have to be done before.

source "$(dirname "$0")/../../local/run.sh"
source "$root/local/study.sh"
parse_options "$@"
cd "$recipe" || exit

data=data/mini
trained=$data/fbank/cuts_train.jsonl.gz validated=$data/fbank/cuts_dev.jsonl.gz evaluated=$data/aligned/cuts_dev.jsonl.gz
common=(--config-dir conf --config-name study "data.tokenizer=$data/bpe_200" "data.speed_factors=[]" data.workers=0 data.max_seconds=50
    optim.warmup_steps=500 train.log_every=50)

# Of studies that go on from a model: its rate about half of that of its training, brought down to nothing.
continued=(optim=scaled_adam optim.schedule=cosine optim.lr=0.025 optim.warmup_steps=100
    train.ctc_weight=0.3 train.save_every=100 train.average_last=3)

# begin_from RUN: once the variables are set: all trainings begin from RUN; of --quick from exp/STUDY/first.
begin_from() {
    local first=$1
    begin
    if [ -n "$quick" ]; then
        only="*" learn first # whichever of the others are chosen
        first=$exp/first
    elif [ -z "$list" ] && [[ " ${hydra[*]-}" != *" train.init="* ]]; then
        [ -d "$first" ] || fail "$recipe/$first: not there; the head of $0 says what has to be done before"
    fi
    common+=("train.init=$first")
}

# splice: 3,000 utterances of the words of one speaker, up to four of them as they were said, to train on beside those of the corpus, at
# three speeds as these: their manifest, $spliced. Of --quick others stand for them.
spliced=$data/fbank/cuts_spliced-3000.jsonl.gz
splice() {
    if [ -n "$quick" ]; then
        spliced=$evaluated
    elif [ -z "$list" ]; then
        splice_words $data/aligned spliced-3000 3000 shortest=8 longest=30 together=4
        make_features spliced-3000 $data/aligned "speed_factors=[0.9,1.1]"
    fi
}
