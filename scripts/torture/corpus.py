#!/usr/bin/env python3
"""A corpus of sound utterances with one of each kind of fault among them: all are named, and nothing else is.

    python scripts/torture/corpus.py [--quick]

`asr validate` reads 1,000 sound utterances (--quick: 100), odd ones among them, and one of each kind in FAULTS. Then
trainings that were not validated: with all rows, which is refused, and with those that are well-formed, which leaves
out what it must and comes to its end.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000
WORDS = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX")
SECONDS = 300  # that a training may take
TELLING = "ONE TWO THREE FOUR FIVE SIX SIX FIVE FOUR THREE"

Row = dict[str, Any]


@dataclass
class Corpus:
    """A directory of audio. rng: of all that is random."""

    home: Path
    rng: np.random.Generator

    def speech(self, seconds: float, level: float = 0.1) -> np.ndarray:
        """Noise (N,) that no other utterance has."""
        return (level * self.rng.standard_normal(round(seconds * RATE))).clip(-0.9, 0.9).astype(np.float32)

    def utterance(self, name: str, seconds: float = 2.0, text: str = "ONE TWO") -> Row:
        """A sound row, and its audio."""
        return self.of(name, self.speech(seconds), text)

    def of(self, name: str, samples: np.ndarray, text: str = "ONE TWO", kind: str = "wav", **how: Any) -> Row:
        """The row of samples, (N,) or (N,channels), and their file."""
        path = self.home / f"{name.replace('/', '_')}.{kind}"
        soundfile.write(path, samples, RATE, **how)
        return row(name, path, len(samples), text, samples.ndim == 1 or samples.shape[1])


def row(name: str, path: Path, samples: int, text: str, channels: int = 1) -> Row:
    """A row of a manifest of cuts."""
    seconds, several = samples / RATE, list(range(channels))
    source = {"type": "file", "channels": several, "source": str(path)}
    recording = {"id": name, "sources": [source], "sampling_rate": RATE, "num_samples": samples, "duration": seconds}
    channel = several if channels > 1 else 0
    said = {"id": name, "recording_id": name, "start": 0.0, "duration": seconds, "channel": channel, "text": text}
    whole = {"id": name, "start": 0.0, "duration": seconds, "channel": channel, "supervisions": [said]}
    return whole | {"recording": recording, "type": "MultiCut" if channels > 1 else "MonoCut"}


# What is sound, and odd


def odd(corpus: Corpus, number: int) -> Row:
    """A sound utterance; of every ten some are not as others are."""
    name, text = f"u{number:04d}", " ".join(corpus.rng.choice(WORDS, 2))
    kind = number % 10
    if kind == 1:
        return corpus.of(name, corpus.speech(2.0), text, "flac")
    if kind == 2:
        return corpus.of(name, corpus.speech(2.0, level=0.004), text)  # −48 dB
    if kind == 3:
        return corpus.of(name, np.stack([corpus.speech(2.0), corpus.speech(2.0)], 1), text)
    if kind == 4:
        one = said(corpus.utterance(name, 2.0, text), start=-0.05, duration=2.1)
        return timed(one, [text.split()[0], 0.1, 0.4], ["", 0.5, 0.3], [text.split()[1], 0.79, 1.25])
    if kind == 5:
        whole = corpus.utterance(name, 4.0, text)
        return said(whole | {"start": 1.5, "duration": 2.0}, start=0.0, duration=2.0)
    if kind == 6:
        samples = corpus.speech(2.0)
        samples[:8000] = 0  # as gates leave it
        return corpus.of(name, samples, text)
    if kind == 7:
        return corpus.of(f"speaker/{name}", corpus.speech(2.0), text, "ogg")
    if kind == 8:
        return corpus.utterance(name, 2.0, text) | {"custom": {"source": "pipe: organ", "type": "command"}}
    return corpus.utterance(name, float(corpus.rng.uniform(1.0, 3.0)), text)


# Faults


def said(one: Row, **fields: Any) -> Row:
    """A row with other fields of its supervision."""
    return one | {"supervisions": [one["supervisions"][0] | fields]}


def recorded(one: Row, **fields: Any) -> Row:
    """A row with other fields of its recording."""
    return one | {"recording": one["recording"] | fields}


def timed(one: Row, *words: list[Any]) -> Row:
    """A row with times of words."""
    return said(one, alignment={"word": [*words]})


def sourced(one: Row, **fields: Any) -> Row:
    """A row with another source."""
    return recorded(one, sources=[one["recording"]["sources"][0] | fields])


def file_of(one: Row) -> Path:
    """The audio of a row."""
    return Path(one["recording"]["sources"][0]["source"])


def rewritten(one: Row, change: Callable[[bytes], bytes]) -> Row:
    """A row whose file has other bytes."""
    path = file_of(one)
    path.write_bytes(change(path.read_bytes()))
    return one


def floats(corpus: Corpus, name: str, value: float, count: int = 1) -> Row:
    """A file of floats, some of which are another value."""
    samples = corpus.speech(2.0)
    samples[:count] = value
    return corpus.of(name, samples, subtype="FLOAT")


def missing(one: Row) -> Row:
    """A row without its file."""
    file_of(one).unlink()
    return one


def directory(one: Row) -> Row:
    """A row whose file is a directory."""
    missing(one)
    file_of(one).mkdir()
    return one


def stored(one: Row, name: str) -> Row:
    """A row with features."""
    place = {"storage_type": "numpy_files", "storage_path": str(file_of(one).parent), "storage_key": name}
    numbers = {"num_frames": 200, "num_features": 80, "frame_shift": 0.01, "sampling_rate": RATE, "start": 0}
    return one | {"features": {"type": "kaldi-fbank", "duration": 2.0, "channels": 0, **numbers, **place}}


def with_nan(corpus: Corpus, name: str) -> Row:
    """A row whose features are NaN."""
    np.save(corpus.home / f"{name}.npy", np.full((200, 80), np.nan, np.float32))
    return stored(corpus.utterance(name), f"{name}.npy")


# By name: what makes the row, and whether it is so malformed that a manifest with it is refused.
FAULTS: dict[str, tuple[Callable[[Corpus, str], Row], bool]] = {
    "text that is a number": (lambda c, n: said(c.utterance(n), text=7), True),
    "a duration that is text": (lambda c, n: c.utterance(n) | {"duration": "2.0"}, True),
    "a duration that is NaN": (lambda c, n: c.utterance(n) | {"duration": float("nan")}, True),
    "a negative start": (lambda c, n: c.utterance(n) | {"start": -0.5}, True),
    "a channel that is text": (lambda c, n: c.utterance(n) | {"channel": "0"}, True),
    "a command": (lambda c, n: sourced(c.utterance(n), type="command", source="touch EXECUTED"), True),
    "a pipe": (lambda c, n: sourced(c.utterance(n), source="pipe:touch EXECUTED"), True),
    "no sampling rate": (lambda c, n: recorded(c.utterance(n), sampling_rate=0), True),
    "samples that are not its duration": (lambda c, n: recorded(c.utterance(n), num_samples=5), True),
    "a field that there is not": (lambda c, n: said(c.utterance(n), transcript="ONE"), True),
    "an end before the start": (lambda c, n: said(c.utterance(n), duration=-1.0), True),
    "a word's time that is text": (lambda c, n: timed(c.utterance(n), ["ONE", "x", 0.1], ["TWO", 1, 0.1]), True),
    "no recording's id": (lambda c, n: recorded(c.utterance(n), id=""), True),
    "features of a command": (lambda c, n: stored(c.utterance(n), "x") | {"features": {"storage_type": "x"}}, True),
    "a supervision after its cut": (lambda c, n: said(c.utterance(n), start=1.0, duration=2.0), False),
    "a supervision before its cut": (lambda c, n: said(c.utterance(n), start=-1.0, duration=2.0), False),
    "a cut beyond its recording": (lambda c, n: said(c.utterance(n) | {"start": 1.0}, duration=2.0), False),
    "words in another order": (lambda c, n: timed(c.utterance(n), ["ONE", 0.5, 0.9], ["TWO", 0.6, 0.3]), False),
    "a word after the end": (lambda c, n: timed(c.utterance(n), ["ONE", 0.1, 0.2], ["TWO", 2.5, 0.3]), False),
    "a word before the beginning": (lambda c, n: timed(c.utterance(n), ["ONE", -1.0, 0.2], ["TWO", 1.5, 0.3]), False),
    "a word of negative length": (lambda c, n: timed(c.utterance(n), ["ONE", 0.5, -0.4], ["TWO", 1.5, 0.3]), False),
    "another number of words": (lambda c, n: timed(c.utterance(n), ["ONE", 0.5, 0.1]), False),
    "more than can be said": (lambda c, n: c.utterance(n, 1.0, "ONE " * 40), False),
    "more labels than frames": (lambda c, n: c.utterance(n, 1.0, "ONE TWO THREE FOUR FIVE SIX"), False),
    "no transcript": (lambda c, n: said(c.utterance(n), text=""), False),
    "a character of no vocabulary": (lambda c, n: c.utterance(n, text="ONE ÷"), False),
    "another case": (lambda c, n: c.utterance(n, text="one two"), False),
    "a symbol that is reserved": (lambda c, n: c.utterance(n, text="ONE <unk>"), False),
    "too long": (lambda c, n: c.utterance(n, 31.0), False),
    "too short": (lambda c, n: c.utterance(n, 0.05, "A"), False),
    "no file": (lambda c, n: missing(c.utterance(n)), False),
    "a directory": (lambda c, n: directory(c.utterance(n)), False),
    "an empty file": (lambda c, n: rewritten(c.utterance(n), lambda data: b""), False),
    "a page": (lambda c, n: rewritten(c.utterance(n), lambda data: b"<html>404</html>"), False),
    "half a WAV file": (lambda c, n: rewritten(c.utterance(n), lambda data: data[: len(data) // 2]), False),
    "half a FLAC file": (
        lambda c, n: rewritten(c.of(n, c.speech(2.0), kind="flac"), lambda data: data[: len(data) // 2]),
        False,
    ),
    "a FLAC file that is garbled": (
        lambda c, n: rewritten(c.of(n, c.speech(2.0), kind="flac"), lambda d: d[:9000] + b"\0" * 9000 + d[18000:]),
        False,
    ),
    "NaN": (lambda c, n: floats(c, n, np.nan), False),
    "infinity": (lambda c, n: floats(c, n, np.inf), False),
    "1e30": (lambda c, n: floats(c, n, 1e30), False),
    "integers for floats": (lambda c, n: floats(c, n, 30000.0, 1000), False),
    "silence": (lambda c, n: c.of(n, np.zeros(2 * RATE, np.float32)), False),
    "next to silence": (lambda c, n: c.of(n, c.speech(2.0, 0.0003)), False),
    "clipped": (lambda c, n: c.of(n, np.sign(c.speech(2.0))), False),
    "mostly zeros": (lambda c, n: c.of(n, np.concatenate([c.speech(0.5), np.zeros(3 * RATE // 2, np.float32)])), False),
    "another sampling rate": (
        lambda c, n: (soundfile.write(file_of(one := c.utterance(n)), c.speech(2.0), 8000), one)[1],
        False,
    ),
    "shorter than it says": (
        lambda c, n: (soundfile.write(file_of(one := c.utterance(n)), c.speech(1.0), RATE), one)[1],
        False,
    ),
    "longer than it says": (
        lambda c, n: (soundfile.write(file_of(one := c.utterance(n)), c.speech(3.0), RATE), one)[1],
        False,
    ),
    "more channels than it says": (
        lambda c, n: (soundfile.write(file_of(one := c.utterance(n)), np.zeros((2 * RATE, 2)) + 0.1, RATE), one)[1],
        False,
    ),
    "features that are not there": (lambda c, n: stored(c.utterance(n), "none.npy"), False),
    "features of NaN": (with_nan, False),
}
OF_TWO = (
    "an id that another has",
    "audio that another part has",
    "the same audio in another file",
    "a long text again",
)
OF_A_LINE = ("no JSON",)


def make(home: Path, count: int) -> tuple[list[str], list[str], dict[str, str], set[str]]:
    """The lines of a training and of a validation manifest; id, or `line N`, of each kind of fault; the malformed."""
    corpus = Corpus(home, np.random.default_rng(0))
    train = [odd(corpus, number) for number in range(count)]
    valid = [corpus.utterance(f"v{number}", text=" ".join(corpus.rng.choice(WORDS, 2))) for number in range(10)]
    named, malformed = {}, set()
    for number, (kind, (fault, is_malformed)) in enumerate(FAULTS.items()):
        name = f"fault-{number:02d}"
        train.insert(int(corpus.rng.integers(len(train))), fault(corpus, name))
        named[kind] = name
        malformed |= {name} if is_malformed else set()
    again = corpus.utterance("again-0")
    shared, copied = corpus.utterance("again-1"), corpus.speech(2.0)
    train += [again, again, shared, corpus.of("again-2", copied), corpus.utterance("again-3", 4.0, TELLING)]
    valid += [shared | {"id": "valid-1"}, corpus.of("valid-2", copied), corpus.utterance("valid-3", 4.0, TELLING)]
    named |= dict(zip(OF_TWO, ("again-0", "valid-1", "valid-2", "valid-3")))
    lines = [json.dumps(one) for one in train]
    lines.insert(count // 2, '{"id": "cut short')
    named[OF_A_LINE[0]] = f"line {count // 2 + 1}:"
    return lines, [json.dumps(one) for one in valid], named, malformed


def asr(*words: str) -> tuple[int, str, str]:
    """Status, output and messages of a command."""
    from asr.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*words])
    return status, out.getvalue(), err.getvalue()


def prepared(home: Path, count: int) -> tuple[list[str], dict[str, str], set[str]]:
    """The options of a training on such a corpus; see `make`."""
    from asr.data.tokenizer import train_tokenizer

    train, valid, named, malformed = make(home, count)
    (home / "train.jsonl").write_text("\n".join(train) + "\n")
    (home / "valid.jsonl").write_text("\n".join(valid) + "\n")
    train_tokenizer([" ".join(WORDS)], "char").save(home / "tokenizer")
    data = [f"data.train_cuts=[{home}/train.jsonl]", f"data.valid_cuts=[{home}/valid.jsonl]"]
    return [*data, f"data.tokenizer={home}/tokenizer", "data.min_duration=0.1"], named, malformed


def validated(options: list[str], named: dict[str, str], jobs: int) -> dict[str, list[str]]:
    """What went wrong with each kind of fault, and with sound utterances, in the words of `asr validate`."""
    status, out, err = asr("validate", *options, f"jobs={jobs}")
    lines = out.splitlines()
    found = {kind: [line for line in lines if re.search(rf"\b{re.escape(name)}", line)] for kind, name in named.items()}
    wrong = {kind: [] if lines_of else ["not named"] for kind, lines_of in found.items()}
    known = {line for lines_of in found.values() for line in lines_of}
    wrong["sound utterances"] = [line for line in lines if line not in known]
    if status != 1 or "Traceback" in err:
        wrong["the command"] = [f"status {status}: {err}"]
    return wrong


def trained(home: Path, options: list[str], malformed: set[str]) -> dict[str, list[str]]:
    """What went wrong with trainings that nobody has validated."""
    small = [
        "model=debug",
        "optim=debug",
        "train.device=cpu",
        "train.steps=4",
        "train.validate_every=4",
        "data.workers=0",
    ]
    wrong: dict[str, list[str]] = {}
    status, _, err = asr("train", f"run={home}/all", *options, *small)
    refused = status == 2 and len(err.strip().splitlines()) == 1
    wrong["a training of all rows"] = [] if refused else [f"status {status}: {err[-500:]}"]
    rows = [line for line in (home / "train.jsonl").read_text().splitlines() if '"cut short' not in line]
    seen: set[str] = set()
    kept = []
    for line in rows:
        name = json.loads(line).get("id")
        if name not in malformed and name not in seen:
            kept.append(line)
        seen.add(name)
    (home / "train.jsonl").write_text("\n".join(kept) + "\n")
    signal.alarm(SECONDS)
    status, _, err = asr("train", f"run={home}/some", *options, *small)
    signal.alarm(0)
    ended = status == 0 and "done at step 4" in err and "Traceback" not in err
    wrong["a training of what is well-formed"] = [] if ended else [f"status {status}: {err[-500:]}"]
    return wrong


def main() -> None:
    """Make the corpus, and print what went wrong."""
    count = 100 if "--quick" in sys.argv[1:] else 1000
    with tempfile.TemporaryDirectory() as home:
        options, named, malformed = prepared(Path(home), count)
        wrong = validated(options, named, jobs=0 if count == 100 else 2) | trained(Path(home), options, malformed)
    for name, what in wrong.items():
        print(f"{'FAILED' if what else 'passed'}  {name}{'  ' * bool(what)}{'; '.join(what)}", flush=True)
    passed = sum(not what for what in wrong.values())
    print(f"corpus: {passed}/{len(wrong)}")
    sys.exit(passed < len(wrong))


if __name__ == "__main__":
    main()
