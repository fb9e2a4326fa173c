#!/usr/bin/env python3
"""How long transcribing takes, from audio files to text, beside sherpa-onnx on an export of the same model.

    asr export run=recipes/an4/exp/transducer output=/tmp/onnx int8=false cuts=recipes/an4/data/cuts_dev.jsonl.gz
    python scripts/bench_transcribe.py recipes/an4/exp/transducer /tmp/onnx CORPUS/an4test_clstk

Greedy search, one thread (by default) of each, all files at once and one by one, alternating in one process: medians of
--repeats, in seconds and in seconds of a processor, which others that run at the same time change less; and how many
texts are the same. sherpa-onnx is given the samples as soundfile reads them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

Texts = list[str]


def main() -> None:
    """Measure and print."""
    options = parse_options()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    ways = {**ours(options), **theirs(options)}
    files = audio_in(Path(options.audio))
    seconds, texts = timed(ways, files, options.repeats)
    same = sum(a == b for a, b in zip(texts["asr, batches"], texts["sherpa-onnx, batches"]))
    print(f"{len(files)} files, {options.threads} threads, medians of {options.repeats}; {same} texts are the same")
    for how in ("batches", "one by one"):
        both = zip(seconds[f"asr, {how}"], seconds[f"sherpa-onnx, {how}"])
        shown = (f"{our:.2f} and {their:.2f} s, {our / their:.2f} of its time" for our, their in both)
        print(f"{how}, asr and sherpa-onnx: {'; of a processor '.join(shown)}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory of `asr train`")
    parser.add_argument("onnx", help="directory that `asr export` wrote of it")
    parser.add_argument("audio", help="directory of audio files at 16 kHz")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def audio_in(directory: Path) -> list[str]:
    """The audio files below a directory."""
    from asr.data.audio_files import audio_in

    return audio_in(directory)


def ours(options: argparse.Namespace) -> dict[str, Callable[[Sequence[str]], Texts]]:
    """Both ways with `asr.load`."""
    import torch

    import asr

    torch.set_num_threads(options.threads)
    model = asr.load(options.run, device="cpu")
    return {
        "asr, batches": lambda files: [found.text for found in model.transcribe(list(files))],
        "asr, one by one": lambda files: [model.transcribe(file).text for file in files],
    }


def theirs(options: argparse.Namespace) -> dict[str, Callable[[Sequence[str]], Texts]]:
    """Both ways with sherpa-onnx."""
    import sherpa_onnx
    import soundfile

    paths = {name: f"{options.onnx}/{name}.onnx" for name in ("encoder", "decoder", "joiner")}
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(
        **paths, tokens=f"{options.onnx}/tokens.txt", num_threads=options.threads
    )

    def stream_of(file: str) -> sherpa_onnx.OfflineStream:
        samples, rate = soundfile.read(file, dtype="float32")
        stream = recognizer.create_stream()
        stream.accept_waveform(rate, samples)
        return stream

    def batches(files: Sequence[str]) -> Texts:
        streams = [stream_of(file) for file in files]
        recognizer.decode_streams(streams)
        return [stream.result.text.strip() for stream in streams]

    return {
        "sherpa-onnx, batches": batches,
        "sherpa-onnx, one by one": lambda files: [text for file in files for text in batches([file])],
    }


def timed(
    ways: dict[str, Callable[[Sequence[str]], Texts]], files: Sequence[str], repeats: int
) -> tuple[dict[str, tuple[float, float]], dict[str, Texts]]:
    """Median seconds of each way, here and of a processor, and the texts; a run of each before is not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    texts = {name: way(files) for name, way in ways.items()}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter(), time.process_time()
            way(files)
            taken[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    found = {name: tuple(map(median, zip(*times))) for name, times in taken.items()}
    return {name: (here, processor) for name, (here, processor) in found.items()}, texts


if __name__ == "__main__":
    main()
