#!/usr/bin/env bash
# Whether reports are what their readers need: made in time, small, and in a browser fast, silent, closed to the network,
# usable by keyboard alone and without serious faults of accessibility, in the light, in the dark and on a phone.
#
#   bash scripts/check_report.sh DIR RUN… [OPTION…]
#
# RUNs and OPTIONs go to `asr report`. DIR gets the reports and pictures of the first, pictures/*.png, to be looked at. A
# second report is of a run whose name, ids and transcripts try to be obeyed. Prints a table; ends with 1 where something
# is not as it should be. Chromium must be there (apt-get install chromium); puppeteer-core and axe-core come from npm.

set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
skip() { echo "skipped: $*" >&2; exit 77; }
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip "no chromium: apt-get install chromium"
command -v node >/dev/null || skip "no node: apt-get install nodejs npm"
command -v npm >/dev/null || skip "no npm: apt-get install npm"
mkdir -p "$1/pictures"
dir=$(cd "$1" && pwd)
shift
run=$(cd "$1" && pwd) || { echo "check_report.sh: error: $1: not a directory; name a run" >&2; exit 2; }
[ -x "$root/.venv/bin/asr" ] && PATH="$root/.venv/bin:$PATH"
if [ ! -d "$dir/node_modules/puppeteer-core" ] || [ ! -d "$dir/node_modules/axe-core" ]; then
    npm install --prefix "$dir" --no-audit --no-fund --silent puppeteer-core@24 axe-core@4 ||
        skip "npm has no puppeteer-core and axe-core for us: is there a network?"
fi

mine="$dir/hostile '\"><img src=x onerror=alert(1)>"
rm -rf "$mine"
mkdir -p "$mine"
for name in config.yaml tokenizer metrics.jsonl train.log; do
    [ ! -e "$run/$name" ] || ln -s "$run/$name" "$mine/$name"
done
python - "$mine" <<'PYTHON'
import json, sys
from pathlib import Path
words = ["<img/src=x/onerror=alert(3)>", "</script><script>alert(4)</script>", "{{7*7}}", "\u202egnp.exe", "\ud800", "&lt;b&gt;"]
rows = [{"id": f"{word}{n}", "reference": " ".join(words), "hypothesis": " ".join(words[n:] + [word])} for n, word in enumerate(words)]
rows[0]["reference"] = ""  # of which nothing was said
decoding = Path(sys.argv[1], "decode")
decoding.mkdir(exist_ok=True)
(decoding / "hypotheses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
(decoding / "wer.txt").write_text("%WER 50.00 [ 1 / 2, 0 ins, 0 del, 1 sub ] <script>alert(5)</script>\n")
PYTHON

TIMEFORMAT="%R s, of which %U s of one core"
time asr report "$@" "output=$dir/report.html"
asr report "$mine" "output=$dir/hostile.html" >/dev/null
node "$root/scripts/check_report.mjs" "$chromium" "$dir" "$dir/pictures" "$dir/report.html" "$dir/hostile.html"
