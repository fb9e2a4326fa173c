#!/usr/bin/env python3
"""Whether sherpa-onnx, on an export of a model, hears what `asr decode` does with at most one label a frame.

    python scripts/check_export.py recipes/an4/exp/transducer recipes/an4/data/cuts_test.jsonl.gz
    python scripts/check_export.py --streaming recipes/digits/exp/causal recipes/digits/data/cuts_test.jsonl.gz

Exports the run, decodes all utterances with both, greedily and with a beam (decode.as_icefall=true), and with int8
weights; whole utterances in batches of several sizes, streams fed in pieces. Prints for each how many texts are the
same, both error rates and what the times differ by, and the sizes of the files.

Of a stream sherpa-onnx decodes whole chunks alone, so both hear silence behind an utterance, until its last one is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import sherpa_onnx
from lhotse import CutSet
from lhotse.cut import Cut

from asr.frames import FRAME_SECONDS
from asr.models.subsampling import frame_timing
from asr.score.wer import Utterance, score

RATE = 16000
BATCHES = 1, 20, 200  # utterances at a time
FED_SECONDS = 0.3  # of a stream at a time
TIMING = frame_timing(4)  # the one that sherpa-onnx knows


@dataclass(frozen=True)
class Found:
    """What was heard, and when its labels were, seconds."""

    text: str
    times: list[float]


def main() -> None:
    """Export, decode with both, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory of `asr train`")
    parser.add_argument("cuts", help="manifest to decode")
    parser.add_argument("--streaming", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        export, heard_by_both = Path(directory) / "onnx", Path(directory) / "cuts.jsonl.gz"
        streaming = ["--streaming"] * given.streaming
        run("export", f"run={given.run}", f"cuts={given.cuts}", f"output={export}", *streaming)
        cuts = [with_silence(cut, export) if given.streaming else cut for cut in CutSet.from_file(given.cuts)]
        CutSet.from_cuts(cuts).to_file(heard_by_both)
        ours = {
            search: decoded(given.run, heard_by_both, Path(directory) / search, f"decode={search}", *streaming)
            for search in ("greedy", "beam")
        }
        for int8 in (False, True):
            for search in ("greedy", "beam"):
                for name, theirs in heard(export, cuts, search, int8, given.streaming):
                    print(f"{search}{', int8' * int8}, {name}: {compared(cuts, ours[search], theirs)}", flush=True)
        print(sizes(export))


def run(*words: str) -> None:
    """Run a command of `asr`. Raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", "asr.cli.main", *words], check=True, stdout=subprocess.DEVNULL)


def with_silence(cut: Cut, export: Path) -> Cut:
    """An utterance with as much silence behind it as makes its last chunk whole, and the frame that must follow it."""
    chunk = json.loads((export / "export.json").read_text())["chunk_frames"]
    step, size = TIMING.factor * chunk, TIMING.needed(chunk) + 1
    frames = -(-max(cut.duration / FRAME_SECONDS - size, 0) // step) * step + size
    return cut.pad(duration=frames * FRAME_SECONDS, preserve_id=True)


def decoded(trained: str, cuts: Path, output: Path, search: str, *streaming: str) -> dict[str, Found]:
    """What `asr decode` hears, by utterance."""
    more = ["decode.max_symbols_per_frame=1"]
    more += ["decode.beam=4", "decode.as_icefall=true"] if search == "decode=beam" else []
    run("decode", f"run={trained}", f"cuts={cuts}", f"output={output}", search, *more, *streaming)
    rows = map(json.loads, (output / "hypotheses.jsonl").read_text().splitlines())
    return {row["id"]: Found(row["hypothesis"], row.get("times", [])) for row in rows}


def heard(
    export: Path, cuts: Sequence[Cut], search: str, int8: bool, streaming: bool
) -> Iterator[tuple[str, dict[str, Found]]]:
    """What sherpa-onnx hears, by utterance, in each of the ways."""
    files = {name: f"{export}/{name}{'.int8' * int8}.onnx" for name in ("encoder", "decoder", "joiner")}
    method = {"greedy": "greedy_search", "beam": "modified_beam_search"}[search]
    options = {**files, "tokens": f"{export}/tokens.txt", "decoding_method": method, "num_threads": 1}
    options["feature_dim"] = json.loads((export / "export.json").read_text())["feature_dim"]
    if streaming:
        recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(**options)
        yield "streamed", {cut.id: stream(recognizer, cut) for cut in cuts}
        return
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(**options)
    for size in BATCHES:
        found = {}
        for begin in range(0, len(cuts), size):
            found |= batch(recognizer, cuts[begin : begin + size])
        yield f"{size} at a time", found


def batch(recognizer: Any, cuts: Sequence[Cut]) -> dict[str, Found]:
    """Utterances together."""
    streams = [recognizer.create_stream() for _ in cuts]
    for one, cut in zip(streams, cuts):
        one.accept_waveform(RATE, cut.resample(RATE).load_audio()[0])
    recognizer.decode_streams(streams)
    return {cut.id: Found(one.result.text.strip(), list(one.result.timestamps)) for cut, one in zip(cuts, streams)}


def stream(recognizer: Any, cut: Cut) -> Found:
    """An utterance, piece by piece."""
    samples, one = cut.resample(RATE).load_audio()[0], recognizer.create_stream()
    step = round(FED_SECONDS * RATE)
    for begin in range(0, len(samples), step):
        one.accept_waveform(RATE, samples[begin : begin + step])
        while recognizer.is_ready(one):
            recognizer.decode_stream(one)
    one.input_finished()
    while recognizer.is_ready(one):
        recognizer.decode_stream(one)
    return Found(recognizer.get_result(one).strip(), list(recognizer.timestamps(one)))


def compared(cuts: Sequence[Cut], ours: dict[str, Found], theirs: dict[str, Found]) -> str:
    """Both in words."""
    same = [id_ for id_ in ours if ours[id_].text == theirs[id_].text]
    rates = [error_rate(cuts, found) for found in (ours, theirs)]
    shifts = [a - b for id_ in same for a, b in zip(ours[id_].times, theirs[id_].times)]
    shift = f", times differ by {median(shifts):.3f} s ({min(shifts):.3f} to {max(shifts):.3f})" * bool(shifts)
    return f"{len(same)} of {len(ours)} texts are the same, WER {rates[0]:.2f} and {rates[1]:.2f} %{shift}"


def error_rate(cuts: Sequence[Cut], found: dict[str, Found]) -> float:
    """Percent of the words."""
    texts = {cut.id: " ".join(part.text for part in cut.supervisions) for cut in cuts}
    return score(Utterance(id_, texts[id_], one.text) for id_, one in found.items()).errors.rate


def sizes(export: Path) -> str:
    """How large both kinds of files are together, and one as a share of the other."""
    int8 = sum(path.stat().st_size for path in export.glob("*.int8.onnx"))
    whole = sum(path.stat().st_size for path in export.glob("*.onnx")) - int8
    return f"{whole / 1e6:.1f} MB, int8 {int8 / 1e6:.1f} MB: {100 * int8 / whole:.0f} %"


if __name__ == "__main__":
    main()
