# What every recipes/*/run.sh shares: options, stages, and finding `asr`. Sourced, not run.
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

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
recipe=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "run.sh: error: $*" >&2
    exit 2
}

usage() {
    sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$recipe/run.sh"
    echo
    sed -n '3,/^$/{/^#/s/^# \{0,1\}//p}' "$root/local/run.sh"
    exit 0
}

parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --stage | --stop-stage | --name | --corpus-dir | --nproc | --nnodes | --node-rank | --rdzv)
                [ $# -ge 2 ] || fail "$1 needs a value"
                case $1 in
                    --stage) stage=$2 ;;
                    --stop-stage) stop_stage=$2 ;;
                    --name) name=$2 ;;
                    --nproc) nproc=$2 ;;
                    --nnodes) nnodes=$2 ;;
                    --node-rank) node_rank=$2 ;;
                    --rdzv) rdzv=$2 ;;
                    --corpus-dir) corpus_dir=$(cd "$2" 2>/dev/null && pwd) || fail "--corpus-dir $2: no such directory" ;;
                esac
                shift 2
                ;;
            -h | --help) usage ;;
            --)
                shift
                hydra=("$@")
                break
                ;;
            *) fail "unknown option $1 (options for training go after --, see --help)" ;;
        esac
    done
    [[ $stage =~ ^[0-9]+$ && $stop_stage =~ ^[0-9]+$ ]] || fail "--stage and --stop-stage take whole numbers"
    [[ $nproc =~ ^[1-9][0-9]*$ && $nnodes =~ ^[1-9][0-9]*$ ]] || fail "--nproc and --nnodes take numbers from 1 on"
    [[ $node_rank =~ ^[0-9]+$ && $node_rank -lt $nnodes ]] || fail "--node-rank $node_rank: give 0 to $((nnodes - 1))"
    [ "$nnodes" = 1 ] || [[ $rdzv =~ ^[^:]+:[0-9]+$ ]] || fail "--nnodes $nnodes needs --rdzv HOST:PORT of machine 0"
}

# asr: the command; `asr train` as several processes where --nproc or --nnodes ask for it.
asr() {
    if [ "${1-}" != train ] || [ $((nproc * nnodes)) = 1 ]; then
        command asr "$@"
        return
    fi
    local threads=$(($(command nproc) / nproc)) meeting=(--standalone)
    [ "$nnodes" = 1 ] || meeting=(
        --nnodes "$nnodes" --node-rank "$node_rank" --rdzv-backend static --rdzv-id "$name" --rdzv-endpoint "$rdzv"
    )
    [ "$threads" -ge 1 ] || threads=1
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads} NUMBA_NUM_THREADS=${NUMBA_NUM_THREADS:-$threads} \
        torchrun "${meeting[@]}" --nproc-per-node "$nproc" -m asr.cli.main "$@"
}

# stage_is N TITLE: whether stage N is to be run; announces it.
stage_is() {
    [ "$stage" -le "$1" ] && [ "$1" -le "$stop_stage" ] || return 1
    echo "== stage $1: $2"
}

# prepare_corpus: manifests data/cuts_*.jsonl.gz from --corpus-dir or a download, unless they are there.
prepare_corpus() {
    [ -f data/cuts_test.jsonl.gz ] && return
    if [ -n "$corpus_dir" ]; then
        python local/prepare.py --corpus-dir "$corpus_dir" --output "$recipe/data"
    else
        python local/prepare.py --download-dir "$recipe/download" --output "$recipe/data"
    fi
}

# align_words SPLIT: data/aligned/cuts_SPLIT.jsonl.gz, data/cuts_SPLIT.jsonl.gz with the times of the words as an
# English HMM model finds them; unless it is newer.
align_words() {
    [ "data/aligned/cuts_$1.jsonl.gz" -nt "data/cuts_$1.jsonl.gz" ] && return
    asr align aligner=pocketsphinx "cuts=data/cuts_$1.jsonl.gz" "output=data/aligned/$1.ctm"
    asr attach "words=data/aligned/$1.ctm" "cuts=data/cuts_$1.jsonl.gz" "output=data/aligned/cuts_$1.jsonl.gz"
}

# splice_words DIR COUNT [OPTION…]: DIR/cuts_spliced.jsonl.gz, COUNT new utterances from the words of DIR/cuts_train.jsonl.gz,
# unless it is newer.
splice_words() {
    local dir=$1 count=$2
    shift 2
    [ "$dir/cuts_spliced.jsonl.gz" -nt "$dir/cuts_train.jsonl.gz" ] ||
        asr splice "cuts=$dir/cuts_train.jsonl.gz" "output=$dir/cuts_spliced.jsonl.gz" audio=data/audio/spliced \
            "count=$count" "$@"
}

# make_features SPLIT DIR [OPTION…]: data/fbank/cuts_SPLIT.jsonl.gz of DIR/cuts_SPLIT.jsonl.gz, unless it is newer.
make_features() {
    local split=$1 cuts=$2/cuts_$1.jsonl.gz
    shift 2
    [ "data/fbank/cuts_$split.jsonl.gz" -nt "$cuts" ] ||
        asr features "cuts=$cuts" "output=data/fbank/cuts_$split.jsonl.gz" "storage=data/fbank/$split" "$@"
}

[ -x "$root/.venv/bin/asr" ] && PATH="$root/.venv/bin:$PATH"
command -v asr >/dev/null || fail "asr is not installed: run bash scripts/setup.sh, or pip install ."
