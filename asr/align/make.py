"""Forced alignment: when each word of a transcript was said. The aligners' protocol, and their work in parallel."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from asr.data.batch import Skipped
from asr.errors import InputError
from asr.files import replacing, write_atomically
from asr.parallel import chunked, start_workers
from asr.progress import progress

CHUNK = 20  # cuts that a process takes at a time


@dataclass(frozen=True)
class Aligned:
    """The words of an utterance with their times, in seconds from its start."""

    id: str
    words: list[AlignmentItem]


class Aligner(Protocol):
    """Cuts with transcripts → the times of their words, or why there are none; an utterance at a time or in batches."""

    def __call__(self, cuts: Sequence[Cut]) -> list[Aligned | Skipped]:
        """One result per cut, in order; independent of which cuts come together."""


MakeAligner = Callable[[], Aligner]  # to be called in each process, so picklable


@dataclass
class Journal:
    """What is done of a long alignment, on disk after every chunk: JSON lines, the first of which tells its settings.

    A line that was cut off, by a power cut say, does not count; nor does a journal of other settings. What could not
    be aligned is tried again.
    """

    path: Path
    settings: dict[str, str]
    done: dict[str, Aligned | Skipped] = field(default_factory=dict)

    def open(self) -> None:
        """Read what an earlier run has done, and begin anew where that is not of these settings."""
        lines = list(complete_lines(self.path))
        rows = [row for row in lines[1:] if "words" in row] if lines and lines[0] == self.settings else []
        self.done = {row["id"]: Aligned(row["id"], [AlignmentItem(*item) for item in row["words"]]) for row in rows}
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in (self.settings, *rows)).encode())

    def add(self, results: Iterable[Aligned | Skipped]) -> None:
        """Write the results of a chunk."""
        with self.path.open("a", encoding="utf-8") as file:
            for result in results:
                self.done[result.id] = result
                file.write(json.dumps(vars(result)) + "\n")


def complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, up to the first line that is not whole."""
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            return
        if not isinstance(row, dict):
            return
        yield row


def align_all(
    make_aligner: MakeAligner, cuts: Iterable[Cut], total: int, journal: Journal, jobs: int, scheduler: str = ""
) -> None:
    """Align every cut that the journal does not have yet, with the workers of `start_workers`."""
    journal.open()
    left = (cut for cut in cuts if cut.id not in journal.done)
    count = -(-(total - len(journal.done)) // CHUNK)
    with start_workers(jobs, scheduler) as workers:
        batches = workers.map(partial(work, make_aligner), chunked(left, CHUNK))
        for results in progress(batches, count, "aligning", f"batches of {CHUNK}"):
            journal.add(results)


def work(make_aligner: MakeAligner, cuts: list[Cut]) -> list[Aligned | Skipped]:
    """Align a chunk in a worker."""
    return worker_aligner(make_aligner)(cuts)


_worker = threading.local()  # Dask's workers may be threads, and an aligner need not be safe for several


def worker_aligner(make_aligner: MakeAligner) -> Aligner:
    """The aligner of this worker, made when it is first asked for: that can take longer than a chunk."""
    wanted = pickle.dumps(make_aligner)
    if getattr(_worker, "made", None) != wanted:
        torch.set_num_threads(1)
        _worker.aligner, _worker.made = make_aligner(), wanted
    return _worker.aligner


def check_for_ctm(ids: Iterable[str]) -> None:
    """Raise InputError for an id that a CTM cannot hold."""
    for utterance in ids:
        if utterance.split() != [utterance]:
            raise InputError(f"a cut is called {utterance!r}, but a CTM has no ids with white space: rename it")


def write_ctm(path: Path, utterances: Iterable[Aligned]) -> None:
    """Write NIST CTM: `utterance channel start duration word [confidence]`, seconds with milliseconds."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for utterance in utterances:
            file.writelines(f"{ctm_line(utterance.id, item)}\n" for item in utterance.words)


def ctm_line(utterance: str, item: AlignmentItem) -> str:
    """A word as a line of a CTM."""
    confidence = "" if item.score is None else f" {item.score:.3f}"
    return f"{utterance} 1 {item.start:.3f} {item.duration:.3f} {item.symbol}{confidence}"
