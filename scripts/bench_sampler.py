#!/usr/bin/env python3
"""How long a training takes to find its place in the middle of an epoch again, and with how much memory.

    python scripts/bench_sampler.py --cuts 1000000 --at 0.85

Writes a manifest of utterances that nobody has recorded, draws batches of them up to a place, and then, in a process of
its own, goes on from what a checkpoint would hold of it. Counted is all from manifest to first batch: whether the rows
are those that the run knows, and the sampler's way to its place. The batches that follow must be those of the first
process. --all: also where the run knows nothing of the manifest, so that every row is looked at; and then from a
checkpoint of an older version, which tells the place alone. Seconds are the processor's, since a machine may have other
work. Ends with status 1 where a bar is missed: 30 s and 2 GB in all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from asr.config import DataOptions
from asr.data.batch import Position, SamplerState
from asr.data.contents import Contents, read_contents
from asr.data.manifest import open_cuts
from asr.data.sampler import Admission, TrainingStream
from asr.data.tokenizer import load_tokenizer, train_tokenizer
from asr.models.subsampling import frame_timing

WORDS = 14  # of an utterance, on average
LETTERS = "abcdefghijklmnopqrstuvwxyz"
AFTER = 100  # batches that must be the same
SECONDS, GIGABYTES = 30.0, 2.0  # the bars
Names = list[list[str]]


@dataclass(frozen=True)
class Corpus:
    """A directory with a manifest and a tokenizer, and how training reads them."""

    directory: Path
    speeds: tuple[float, ...]

    @property
    def manifest(self) -> Path:
        """The rows."""
        return self.directory / "cuts.jsonl.gz"

    def contents(self, before: Contents | None = None) -> Contents:
        """What a run keeps of the manifest."""
        return read_contents([str(self.manifest)], before=before)

    def stream(self, start: Position, rows_known: bool = False) -> TrainingStream:
        """What decides which cuts make a batch."""
        tokenizer = load_tokenizer(self.directory / "tokenizer")
        admission = Admission(tokenizer, 0.1, 30.0, frame_timing(4), ctc=True)
        options = DataOptions(max_seconds=600.0, speed_factors=list(self.speeds))
        cuts = open_cuts([str(self.manifest)], rows_known=rows_known)
        return TrainingStream(cuts, options, 0, start, admission)


@dataclass(frozen=True)
class Place:
    """Where the stream was left, as JSON, and what followed."""

    batch: int
    sampler: dict[str, Any]
    names: Names

    def start(self, replay: bool) -> Position:
        """What a checkpoint gives back."""
        return Position(0, self.batch, None if replay else SamplerState.from_json(self.sampler))


@dataclass(frozen=True)
class Restored:
    """What it took to be there again. rows: seconds to know them. whole: seconds up to the first batch."""

    rows: float
    whole: float
    gigabytes: float
    names: Names

    def line(self, name: str, place: Place) -> str:
        """A row of the table."""
        passed = self.whole <= SECONDS and self.gigabytes <= GIGABYTES and self.names == place.names
        same = "the same batches" if self.names == place.names else "OTHER BATCHES"
        return (
            f"{name:24} {self.whole:7.1f} s, of these {self.rows:.1f} s for the rows; "
            f"{self.gigabytes:.2f} GB; {same}   {'PASSED' if passed else 'FAILED'}"
        )


def write_corpus(corpus: Corpus, count: int) -> None:
    """Write the rows of `count` utterances, and a tokenizer."""
    draw = random.Random(0)
    lexicon = ["".join(draw.choices(LETTERS, k=draw.randint(2, 9))) for _ in range(5000)]
    train_tokenizer([" ".join(lexicon)], "char").save(corpus.directory / "tokenizer")
    with gzip.open(corpus.manifest, "wt", compresslevel=6) as file:
        for number in range(count):
            file.write(json.dumps(make_row(number, draw, lexicon)) + "\n")


def make_row(number: int, draw: random.Random, lexicon: list[str]) -> dict[str, Any]:
    """A row as `asr manifest` writes it."""
    name, samples = f"speaker{number % 4999:04d}-{number:08d}", draw.randint(32_000, 480_000)
    seconds = samples / 16_000
    words = draw.choices(lexicon, k=max(int(seconds * WORDS / 8), 1))
    source = {"type": "file", "channels": [0], "source": f"/corpus/audio/{name[:11]}/{name}.flac"}
    recording = {"id": name, "sources": [source], "sampling_rate": 16_000, "num_samples": samples, "duration": seconds}
    said = {"id": name, "recording_id": name, "start": 0.0, "duration": seconds, "channel": 0}
    said |= {"text": " ".join(words), "language": "English", "speaker": name[:11]}
    cut = {"id": name, "start": 0.0, "duration": seconds, "channel": 0, "supervisions": [said]}
    return {**cut, "recording": {**recording, "channel_ids": [0]}, "type": "MonoCut"}


def names_of(draws: Iterator[Any]) -> Names:
    """What the next batches are of."""
    return [[cut.id for cut in draw.cuts] for draw in islice(draws, AFTER)]


def leave(corpus: Corpus, cuts: int) -> Place:
    """Draw so many cuts of the epoch."""
    draws, drawn = iter(corpus.stream(Position())), 0
    while drawn < cuts:
        draw = next(draws)
        drawn += len(draw.cuts)
    assert draw.position
    assert draw.position.sampler
    return Place(draw.position.batch, draw.position.sampler.as_json(), names_of(draws))


def restore(corpus: Corpus, place: Place, before: Contents | None, replay: bool) -> Restored:
    """Be there again. before: what the run knows of the manifest."""
    began = time.process_time()
    stream = corpus.stream(place.start(replay), corpus.contents(before).still(before))
    looked = time.process_time()
    draws = iter(stream)
    first = [cut.id for cut in next(draws).cuts]
    whole = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Restored(looked - began, whole - began, peak, [first, *names_of(draws)][:AFTER])


def main() -> None:
    """Measure, each in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=1_000_000)
    parser.add_argument("--at", type=float, default=0.85, help="of the epoch")
    parser.add_argument("--speeds", type=float, nargs="*", default=[0.9, 1.0, 1.1])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--directory", type=Path, help="where the corpus and the place are kept, or are already")
    given = parser.parse_args()
    passed: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Corpus(given.directory or Path(temporary), tuple(given.speeds))
        corpus.directory.mkdir(parents=True, exist_ok=True)
        if not corpus.manifest.exists():
            write_corpus(corpus, given.cuts)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as alone:
            kept = corpus.directory / "place.json"
            if not kept.exists():
                kept.write_text(json.dumps(asdict(alone.apply(leave, (corpus, int(given.at * given.cuts))))))
            place = Place(**json.loads(kept.read_text()))
            print(f"{given.cuts:,} cuts, batch {place.batch}; state of {len(json.dumps(place.sampler)) / 1000:.0f} kB")
            known = alone.apply(corpus.contents)
            ways = {"a state": (known, False), "it, other files": (None, False), "the place alone": (None, True)}
            for name, how in ways.items() if given.all else [("a state", ways["a state"])]:
                line = alone.apply(restore, (corpus, place, *how)).line(f"from {name}", place)
                passed[name] = line.endswith("PASSED")
                print(line, flush=True)
    sys.exit(not passed["a state"])


if __name__ == "__main__":
    main()
