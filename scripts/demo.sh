#!/usr/bin/env bash
# From a fresh machine to a trained, decoded and scored transducer: sets up, then runs recipes/digits.
# About 6 minutes on 2 CPU cores.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
[ -n "${ASR_SUPERVISED-}" ] || ASR_SUPERVISED=yes exec .venv/bin/python local/supervise.py bash scripts/demo.sh
unset ASR_SUPERVISED
bash recipes/digits/run.sh

run=recipes/digits/exp/transducer
.venv/bin/asr report "$run" "output=$run/report.html" "cuts=[recipes/digits/data/cuts_test.jsonl.gz]"
echo
echo "checkpoint   $(ls -d $run/checkpoints/step-* | tail -n 1)"
echo "hypotheses   $run/decode_test/hypotheses.jsonl"
echo "TensorBoard  $run/tensorboard"
echo "report       $run/report.html: open it in a browser"
cat $run/decode_test/wer.txt
