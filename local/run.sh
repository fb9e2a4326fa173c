# What every recipes/*/run.sh shares: options, stages, and finding `asr`. Sourced, not run.
# Runs in bash 3.2 and with the sed of BSD, which macOS has.
#
#   --stage N        first stage to run (default 0)
#   --stop-stage N   last stage to run (default: the last there is)
#   --name NAME      the run's directory is exp/NAME (default: transducer)
#   --corpus-dir DIR a copy of the corpus on disk, instead of a download
#   --nproc N        train with N processes on this machine: as many as it has GPUs (default 1)
#   --nnodes M --node-rank R --rdzv HOST:PORT
#                    train on M machines: run the same command on each, with R from 0 to M-1; machine 0 is reached
#                    at HOST:PORT, and all share one file system, on which the stages before are already done
#   -- KEY=VALUE …   everything after -- goes to `asr train` unchanged

stage=0
stop_stage=99
name=transducer
corpus_dir=
nproc=1
nnodes=1
node_rank=0
rdzv=
hydra=()
switches=
settings=
data=data # where manifests are, and what is made of them
fbank=    # where features are, if not in $data/fbank

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
recipe=$(cd "$(dirname "$0")" && pwd)
[ -x "$root/.venv/bin/asr" ] && PATH="$root/.venv/bin:$PATH"

# Once more, as a child of what passes signals on to all that runs here, and ends it when this shell is gone.
[ -n "${ASR_SUPERVISED-}" ] || ! command -v python >/dev/null || ASR_SUPERVISED=yes exec python "$root/local/supervise.py" bash "$0" "$@"
unset ASR_SUPERVISED

fail() {
    echo "$(basename "$0"): error: $*" >&2
    exit 2
}

usage() {
    sed -n -e '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    echo
    if [ -n "${study-}" ]; then
        sed -n -e '3,/^$/s/^# \{0,1\}//p' "$root/local/study.sh"
    else
        sed -n -e '4,/^$/s/^# \{0,1\}//p' "$root/local/run.sh"
    fi
    exit 0
}

# parse_options WORD…: sets the variables above. A recipe that has options of its own declares them before: switches="mini"
# makes --mini set $mini to "yes" (else it is empty), and settings="vocab-size" makes --vocab-size N set $vocab_size.
parse_options() {
    local option
    for option in $switches; do
        eval "${option//-/_}=" # `printf -v` sets nothing to "" in bash 3.2
    done
    while [ $# -gt 0 ]; do
        option=${1#--}
        if [ "$1" = -- ]; then
            hydra=("${@:2}")
            break
        elif [ "$1" = -h ] || [ "$1" = --help ]; then
            usage
        elif is_among "$1" "stage stop-stage name corpus-dir nproc nnodes node-rank rdzv $settings"; then
            [ $# -ge 2 ] || fail "$1 needs a value"
            printf -v "${option//-/_}" %s "$2"
            shift 2
        elif is_among "$1" "$switches"; then
            printf -v "${option//-/_}" yes
            shift
        else
            fail "unknown option $1 (options for training go after --, see --help)"
        fi
    done
    [[ $stage =~ ^[0-9]+$ && $stop_stage =~ ^[0-9]+$ ]] || fail "--stage and --stop-stage take whole numbers"
    [[ $nproc =~ ^[1-9][0-9]*$ && $nnodes =~ ^[1-9][0-9]*$ ]] || fail "--nproc and --nnodes take numbers from 1 on"
    [[ $node_rank =~ ^[0-9]+$ && $node_rank -lt $nnodes ]] || fail "--node-rank $node_rank: give 0 to $((nnodes - 1))"
    [ "$nnodes" = 1 ] || [[ $rdzv =~ ^[^:]+:[0-9]+$ ]] || fail "--nnodes $nnodes needs --rdzv HOST:PORT of machine 0"
    [ -z "$corpus_dir" ] || resolve corpus_dir
}

# is_among --OPTION LIST: whether the list, separated by blanks, has the option.
is_among() {
    [[ $1 == --* && " $2 " == *" ${1#--} "* ]]
}

# resolve VARIABLE: make the directory that it names an absolute path, before the recipe changes directory.
resolve() {
    local path
    path=$(cd "${!1}" 2>/dev/null && pwd) || fail "--${1//_/-} ${!1}: no such directory"
    printf -v "$1" %s "$path"
}

# asr: the command; `asr train` as several processes where --nproc or --nnodes ask for it.
asr() {
    if [ "${1-}" != train ] || [ $((nproc * nnodes)) = 1 ]; then
        command asr "$@"
        return
    fi
    local threads=$(($(command nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) / nproc)) meeting=(--standalone)
    [ "$nnodes" = 1 ] || meeting=(
        --nnodes "$nnodes" --node-rank "$node_rank" --rdzv-backend static --rdzv-id "$name" --rdzv-endpoint "$rdzv"
    )
    [ "$threads" -ge 1 ] || threads=1
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads} NUMBA_NUM_THREADS=${NUMBA_NUM_THREADS:-$threads} \
        python -m asr.cli.torchrun "${meeting[@]}" --nproc-per-node "$nproc" -m asr.cli.main "$@"
}

# stage_is N TITLE: whether stage N is to be run; announces it.
stage_is() {
    [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ] || return 1
    echo "== stage $1: $2"
}

# prepare DIR [OPTION…]: manifests DIR/cuts_*.jsonl.gz from --corpus-dir or a download.
prepare() {
    local output=$recipe/$1
    shift
    if [ -n "$corpus_dir" ]; then
        python local/prepare.py --corpus-dir "$corpus_dir" --output "$output" "$@"
    else
        python local/prepare.py --download-dir "$recipe/download" --output "$output" "$@"
    fi
}

# prepare_corpus: manifests $data/cuts_*.jsonl.gz, unless they are there.
prepare_corpus() {
    [ -f "$data/cuts_test.jsonl.gz" ] || prepare "$data"
}

# prepare_noise DIR: data/musan/cuts_noise.jsonl.gz of a copy of MUSAN, or of a download where DIR is "download"; unless
# it is there.
prepare_noise() {
    local source=(--corpus-dir "$1")
    [ "$1" != download ] || source=(--download-dir "$recipe/download")
    [ -f data/musan/cuts_noise.jsonl.gz ] || python "$root/local/musan.py" "${source[@]}" --output data/musan
}

# make_tokenizer NAME OPTION…: $data/NAME, a tokenizer of the transcripts of $data/cuts_train.jsonl.gz, unless it is newer.
make_tokenizer() {
    local output=$data/$1
    shift
    [ "$output/tokenizer.json" -nt "$data/cuts_train.jsonl.gz" ] ||
        asr tokenizer "cuts=[$data/cuts_train.jsonl.gz]" "output=$output" "$@"
}

# make_lm TOKENIZER ORDER: $data/TOKENIZER_ORDERgram.arpa.gz, an n-gram of the pieces of $data/cuts_train.jsonl.gz, and $data/words.txt, its
# words; unless it is newer.
make_lm() {
    local output=$data/$1_$2gram.arpa.gz
    [ "$output" -nt "$data/cuts_train.jsonl.gz" ] ||
        asr lm "cuts=[$data/cuts_train.jsonl.gz]" "tokenizer=$data/$1" "order=$2" "word_list=$data/words.txt" "output=$output"
}

# align_words SPLIT [OPTION…]: $data/aligned/cuts_SPLIT.jsonl.gz, $data/cuts_SPLIT.jsonl.gz with the times of the words
# as an English HMM model finds them; unless it is newer.
align_words() {
    local split=$1
    shift
    [ "$data/aligned/cuts_$split.jsonl.gz" -nt "$data/cuts_$split.jsonl.gz" ] && return
    asr align aligner=pocketsphinx "cuts=$data/cuts_$split.jsonl.gz" "output=$data/aligned/$split.ctm" "$@"
    asr attach "words=$data/aligned/$split.ctm" "cuts=$data/cuts_$split.jsonl.gz" "output=$data/aligned/cuts_$split.jsonl.gz"
}

# splice_words DIR NAME COUNT [OPTION…]: DIR/cuts_NAME.jsonl.gz, COUNT new utterances from the words of
# DIR/cuts_train.jsonl.gz, unless it is newer.
splice_words() {
    local dir=$1 output=$1/cuts_$2.jsonl.gz count=$3
    shift 3
    [ "$output" -nt "$dir/cuts_train.jsonl.gz" ] ||
        asr splice "cuts=$dir/cuts_train.jsonl.gz" "output=$output" "audio=$data/audio/spliced" \
            "count=$count" "$@"
}

# make_features SPLIT DIR [OPTION…]: $fbank/cuts_SPLIT.jsonl.gz of DIR/cuts_SPLIT.jsonl.gz, unless it is newer.
make_features() {
    local split=$1 cuts=$2/cuts_$1.jsonl.gz to=${fbank:-$data/fbank}
    shift 2
    [ "$to/cuts_$split.jsonl.gz" -nt "$cuts" ] ||
        asr features "cuts=$cuts" "output=$to/cuts_$split.jsonl.gz" "storage=$to/$split" "$@"
}

# make_shar SPLIT DIR [OPTION…]: DIR/shar_SPLIT, DIR/cuts_SPLIT.jsonl.gz with its audio or features in tar files, unless it
# is newer.
make_shar() {
    local output=$2/shar_$1 cuts=$2/cuts_$1.jsonl.gz
    shift 2
    [ "$output" -nt "$cuts" ] || asr shar "cuts=$cuts" "output=$output" "$@"
}

# decode_once CUTS DIR TITLE [OPTION…]: exp/NAME/DIR, CUTS decoded and scored, unless the hypotheses there are newer than
# the checkpoints: then they are scored again, which takes a second.
decode_once() {
    local cuts=$1 output=exp/$name/$2 title=$3
    shift 3
    if [ "$output/hypotheses.jsonl" -nt "exp/$name/checkpoints" ]; then
        [ -f "$output/delay.txt" ] || cuts= # without times of words
        asr score "hypotheses=$output/hypotheses.jsonl" "cuts=$cuts" "output=$output" "name=$title"
    else
        asr decode "run=exp/$name" "cuts=$cuts" "output=$output" "name=$title" checkpoint=average "$@"
    fi
}

command -v asr >/dev/null || fail "asr is not installed: run bash scripts/setup.sh, or pip install ."
