# What every study shares: trainings by name, that are compared in a table at the end. Sourced after run.sh.
#
#   --only NAMES     only these trainings, by name or pattern: --only "pruned-0 ar-*"
#   --list           print each training with its options, and train nothing
#   --quick          whether all of it runs: 4 steps of a tiny model on 12 utterances, in exp/STUDY-quick
#   -- KEY=VALUE …   everything after -- goes to each `asr train`, after its own options
#
# Each training is exp/STUDY/NAME. The same command goes on where it was, whatever has ended it; a training that fails is named
# at the end, and the others are done. What is done stays as it is, whatever options are given then: remove its directory to
# have it again. One core is enough, and all are the same on it: taskset -c 0 nice bash …

study=$(basename "$0" .sh)
switches="list quick"
settings="only"
only="*"
common=()    # options of all trainings of the study, its config first
decoding=()  # options of their decodings
trained=     # manifests that they train on, separated by commas
validated=   # manifest of the validations
evaluated=   # manifest that is decoded: a figure of the table
quick=
runs=()      # what the table is of: all that have been chosen, now or before
chosen=
failed=

# Of --quick: whatever the architecture, this one; whatever the schedule, over in 4 steps.
TINY="model.layers=1 model.heads=2 model.encoder_dim=16 model.feedforward_dim=16 model.subsampling_channels=4
    model.predictor_dim=16 model.joiner_dim=16 data.max_seconds=60 data.workers=0 optim.warmup_steps=2
    optim.head_warmup_steps=1 train.steps=4 train.log_every=1 train.validate_every=4 train.save_every=2 train.average_last=2"

# begin: once options are parsed and the variables above are set.
begin() {
    [ "$stage $stop_stage $name" = "0 99 transducer" ] || fail "--stage, --stop-stage and --name mean nothing to a study"
    exp=exp/$study
    [ -z "$quick" ] || exp=$exp-quick
    [ -z "$list" ] || return 0
    local manifest
    for manifest in ${trained//,/ } "$validated" "$evaluated"; do
        [ -f "$manifest" ] || fail "$recipe/$manifest: not there; the head of $0 says what has to be done before"
    done
    [ -z "$quick" ] || rm -rf "$exp" # or what was tried before would not be tried again
    mkdir -p "$exp"
    [ -z "$quick" ] || shorten
}

# shorten: manifests of a few utterances in the place of all.
shorten() {
    gzip -dc "${trained%%,*}" | sed -n 1,12p | gzip >"$exp/cuts_train.jsonl.gz"
    gzip -dc "$evaluated" | sed -n 1,4p | gzip >"$exp/cuts_test.jsonl.gz"
    trained=$exp/cuts_train.jsonl.gz validated=$exp/cuts_test.jsonl.gz evaluated=$exp/cuts_test.jsonl.gz
}

# learn NAME KEY=VALUE …: a training and its error rate, unless that is known.
learn() {
    local run=$exp/$1 status=0
    if ! is_chosen "$1"; then
        [ ! -s "$run/decode/wer.txt" ] || runs=(${runs[@]+"${runs[@]}"} "$run")
        return 0
    fi
    chosen=yes
    if [ -n "$list" ]; then
        printf '%s:' "$1"
        printf ' %s' "${@:2}" ${hydra[@]+"${hydra[@]}"}
        echo
        return
    fi
    runs=(${runs[@]+"${runs[@]}"} "$run")
    [ -s "$run/decode/wer.txt" ] || { train_one "$run" "${@:2}" && decode_one "$run"; } || status=$?
    case $status in 129 | 130 | 143) exit $status ;; esac # by a signal that was meant for all
    [ $status = 0 ] || failed="$failed $1"
}

is_chosen() {
    local pattern
    set -f
    for pattern in $only; do
        # shellcheck disable=SC2254 # it is a pattern
        case $1 in $pattern) set +f; return 0 ;; esac
    done
    set +f
    return 1
}

train_one() {
    local run=$1 tiny=
    shift
    [ -z "$quick" ] || tiny=$TINY
    echo "== $run"
    # shellcheck disable=SC2086 # words
    asr train "${common[@]}" "data.train_cuts=[$trained]" "data.valid_cuts=[$validated]" "$@" \
        ${hydra[@]+"${hydra[@]}"} $tiny run="$run"
}

decode_one() {
    asr decode run="$1" checkpoint=average cuts="$evaluated" output="$1/decode" name="$study" ${decoding[@]+"${decoding[@]}"}
}

# tell [OPTION…]: the table of what there is, exp/STUDY/table.md; the exit status is that of the trainings.
tell() {
    local status=0
    [ -n "$chosen" ] || fail "--only $only: there is no such training; see --list"
    [ -z "$list" ] || return 0
    python "$root/local/study.py" ${runs[@]+"${runs[@]}"} --table "$exp/table.md" "$@" || status=$?
    [ -z "$failed" ] || fail "these failed:$failed; their reasons are above, and the same command tries them again"
    return $status
}
