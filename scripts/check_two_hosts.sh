#!/usr/bin/env bash
# Train on two "machines": network namespaces of this one, joined by a cable, that can reach each other and nothing else.
#
#   bash scripts/check_two_hosts.sh DIR [OPTION…]
#
# DIR must not exist; OPTIONs go to `asr train` and name the data. Needs Linux, root and iproute2; says so and ends
# with 77 (skipped) where it cannot run. Compares with two processes on one machine: every line of metrics but for
# the clocks must be the same bits.

set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
dir=$1
shift
skip() { echo "skipped: $*" >&2; exit 77; }
[ ! -e "$dir" ] || { echo "$dir exists: give a directory that does not" >&2; exit 2; }
command -v ip >/dev/null || skip "no command ip (iproute2)"
left=asr-$$-0 right=asr-$$-1
ip netns add "$left" 2>/dev/null || skip "this user may not make network namespaces (ip netns add)"
other=
trap 'ip netns del "$left"; ip netns del "$right" 2>/dev/null || true; [ -z "$other" ] || kill "$other" 2>/dev/null || true' EXIT
ip netns add "$right"
ip link add veth0 netns "$left" type veth peer name veth0 netns "$right" 2>/dev/null || skip "no veth devices here"
for host in 0 1; do
    space=asr-$$-$host
    ip -n "$space" address add "10.77.0.$((host + 1))/24" dev veth0
    ip -n "$space" link set veth0 up
    ip -n "$space" link set lo up
done

root=$(cd "$(dirname "$0")/.." && pwd)
[ -x "$root/.venv/bin/torchrun" ] && PATH="$root/.venv/bin:$PATH"
train=(-m asr.cli.main train train.log_every=1 train.device=cpu "$@")
on_host() {
    ip netns exec "asr-$$-$1" env GLOO_SOCKET_IFNAME=veth0 torchrun --nnodes 2 --node-rank "$1" --nproc-per-node 1 \
        --rdzv-backend static --rdzv-endpoint 10.77.0.1:29411 --local-addr "10.77.0.$(($1 + 1))" \
        "${train[@]}" "run=$dir/hosts"
}
mkdir -p "$dir"
on_host 1 >"$dir/host1.log" 2>&1 &
other=$!
on_host 0 >"$dir/host0.log" 2>&1 || { cat "$dir"/host*.log >&2; exit 1; }
wait $other || { cat "$dir/host1.log" >&2; exit 1; }
other=
torchrun --standalone --nproc-per-node 2 "${train[@]}" "run=$dir/local" >"$dir/local.log" 2>&1 || { cat "$dir/local.log" >&2; exit 1; }
python - "$dir" <<'PYTHON'
import json, sys

clocks = ("audio_seconds_per_second", "waiting_share", "step_seconds", "step_cpu_seconds", "peak_mb")
hosts, local = (
    [{k: v for k, v in json.loads(line).items() if not k.endswith(clocks)} for line in open(f"{sys.argv[1]}/{run}/metrics.jsonl")]
    for run in ("hosts", "local")
)
assert hosts == local, "two hosts did not train what two processes did"
print(f"two hosts: all {len(hosts)} lines of metrics are those of two processes on one, bit for bit")
PYTHON
