"""What manifests hold, in two values: whether a training goes on with the utterances that it was begun with."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asr.data.manifest import AGAIN, why_not
from asr.data.shar import shar_manifests
from asr.errors import InputError
from asr.files import bounded_lines
from asr.version import version

BLOCK = 2**20  # bytes
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Contents:
    """utterances: their number. sha256: of what they are, in order; see `of_cut`.

    seconds: the `QUANTILES` of their durations; none where there are none, nor in records of older runs.
    files: of the manifests as they lie there, and of the program that read them; "" in records of older runs.
    """

    utterances: int
    sha256: str
    seconds: list[float] = field(default_factory=list, compare=False)
    files: str = field(default="", compare=False)

    def still(self, before: Contents | None) -> bool:
        """Whether the same program has read the same files before."""
        return before is not None and self.files == before.files != ""


def read_contents(paths: Sequence[str], times_of_words: bool = False, before: Contents | None = None) -> Contents:
    """The contents of manifests or directories of Shar, one after the other, with the times of words or without.

    Reads lines of JSON alone, in some 20 µs each, and neither audio nor Lhotse's cuts; none where they are what was
    read `before`. Where the data lie, or in what form, makes no difference. Raises InputError where a file cannot be
    read.
    """
    files = digest_of_files(paths, times_of_words)
    if before is not None and before.files == files:
        return before
    digest, count, seconds = hashlib.sha256(), 0, array("f")
    for line in (line for path in paths for file in files_of(Path(path)) for line in read(file)):
        cut = as_json(line)
        digest.update(of_line(line, cut, times_of_words))
        seconds.extend(durations(cut))
        count += 1
    quantiles = np.quantile(seconds, QUANTILES).round(2).tolist() if seconds else []
    return Contents(count, digest.hexdigest(), quantiles, files)


def digest_of_files(paths: Iterable[str], times_of_words: bool) -> str:
    """The SHA-256 of manifests byte for byte, of this version of the program, and of what it reads in them."""
    digest = hashlib.sha256(f"{version()} {times_of_words}".encode())
    for manifest in (file for path in paths for file in files_of(Path(path))):
        try:
            with manifest.open("rb") as file:
                for block in iter(partial(file.read, BLOCK), b""):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{manifest}: cannot be read ({error}); {AGAIN}") from error
    return digest.hexdigest()


def files_of(path: Path) -> list[Path]:
    """The manifest itself, or those of the shards in a directory, in the order in which they are read."""
    if reason := why_not(path):
        raise InputError(f"{path}: {reason}")
    return shar_manifests(path) if path.is_dir() else [path]


def read(path: Path) -> Iterator[bytes]:
    """The lines that are not blank."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from (line for line in bounded_lines(file) if not line.isspace())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); {AGAIN}") from error


def as_json(line: bytes) -> Any:
    """What a line holds; None where it is no JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def of_line(line: bytes, cut: Any, times_of_words: bool) -> bytes:
    """What counts of a line: the cut, or where it is none, all of it."""
    try:
        return repr(of_cut(cut, times_of_words)).encode()
    except (ValueError, AttributeError, TypeError, KeyError):
        return line


def durations(cut: Any) -> list[float]:
    """The duration of a cut, seconds; none where it has none of its own, as one that is mixed."""
    try:
        return [float(cut["duration"])]
    except (ValueError, TypeError, KeyError):
        return []


def of_cut(cut: dict[str, Any], times_of_words: bool) -> Any:
    """Name, duration, texts and, if asked for, times of words of a cut, or of those that it is mixed of.

    Not where it begins in its recording: Shar holds it without the rest.
    """
    if "tracks" in cut:
        tracks = [(t.get("offset"), t.get("snr"), of_cut(t["cut"], times_of_words)) for t in cut["tracks"]]
        return cut["id"], tracks
    said = [
        (float(s["start"]), float(s["duration"]), s.get("text"), s.get("alignment") if times_of_words else None)
        for s in cut.get("supervisions") or ()
    ]
    return cut["id"], float(cut["duration"]), said
