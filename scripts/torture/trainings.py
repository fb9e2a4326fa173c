"""What the rows of the table share: a corpus made here, a small training on it, and the count that ends each row."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr.data.corpus import describe_recording, make_cut, write_cuts, write_flac
from asr.data.tokenizer import train_tokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
TONES = {"LOW": 300, "MID": 800, "HIGH": 1800, "TOP": 3500}  # Hz, of the words of the corpus
SAMPLING_RATE = 16000
WORD_SECONDS = 0.35


def make_corpus(directory: Path, train: int = 24, dev: int = 6) -> None:
    """Utterances in which each word is a tone: audio, manifests and a tokenizer; the same bits every time."""
    directory.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for part, count in (("train", train), ("dev", dev)):
        cuts = (tone_cut(directory, f"{part}-{index:02d}", draw) for index in range(count))
        write_cuts(cuts, directory / f"cuts_{part}.jsonl.gz")
    train_tokenizer([" ".join(TONES)], "char").save(directory / "tokenizer")


def tone_cut(directory: Path, name: str, draw: np.random.Generator):  # type: ignore[no-untyped-def]
    """The cut of two to four words, and its audio."""
    words = draw.choice(list(TONES), size=draw.integers(2, 5))
    time = np.arange(round(WORD_SECONDS * SAMPLING_RATE)) / SAMPLING_RATE
    samples = np.concatenate([0.3 * np.sin(2 * np.pi * TONES[word] * time) for word in words])
    samples += 0.005 * draw.standard_normal(len(samples))
    path = directory / f"{name}.flac"
    write_flac(path, (samples * 32767).astype(np.int16), SAMPLING_RATE)
    return make_cut(describe_recording(name, path), " ".join(words), speaker="tone", language="English")


def options(corpus: Path, *more: str) -> list[str]:
    """Options of a training of a tiny model."""
    return [
        "model=debug",
        "data=debug",
        "data.max_seconds=4",
        f"data.train_cuts=[{corpus}/cuts_train.jsonl.gz]",
        f"data.valid_cuts=[{corpus}/cuts_dev.jsonl.gz]",
        f"data.tokenizer={corpus}/tokenizer",
        "train.device=cpu",
        *more,
    ]


def wait_for(condition: Callable[[], bool], seconds: float, between: float = 0.05) -> bool:
    """Whether it came true in time; it is looked at every so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(between)
    return True


@dataclass
class Tally:
    """How many of the cases of a row have passed; each is printed as it ends."""

    row: str
    faults: list[str] = field(default_factory=list)
    tried: int = 0

    def note(self, case: str, fault: str) -> None:
        """Count a case, with what was wrong, "" if nothing."""
        self.tried += 1
        self.faults += [case] * bool(fault)
        print(f"{'FAILED' if fault else 'ok'}  {case}{': ' if fault else ''}{fault}", flush=True)

    def note_chain(self, cases: Sequence[str], fault: str, number: int) -> None:
        """Count cases that end in one outcome; of a fault, the chain of them itself where it has none."""
        for case in cases or [f"chain {number}, which ended before it was killed"] * bool(fault):
            self.note(case, fault)

    def end(self) -> int:
        """Print the row; returns the exit status."""
        print(f"{self.row}: {self.tried - len(self.faults)}/{self.tried}", flush=True)
        return 1 if self.faults or not self.tried else 0


def arguments(doc: str | None, quick: int, full: int) -> argparse.Namespace:
    """--quick, and --tries: how many cases, `quick` or `full` if it is not given."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a part of the cases")
    parser.add_argument("--tries", type=int, help=f"how many cases: {full}, with --quick {quick}")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.tries = given.tries or (quick if given.quick else full)
    return given
