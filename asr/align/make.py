"""Forced alignment: when each word of a transcript was said. The aligners' protocol, and their work in parallel."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from asr.data.batch import Skipped
from asr.data.ctm import Aligned
from asr.journal import Journal
from asr.parallel import chunked, start_workers
from asr.progress import progress

CHUNK = 20  # cuts that a process takes at a time


class Aligner(Protocol):
    """Cuts with transcripts → the times of their words, or why there are none; an utterance at a time or in batches."""

    def __call__(self, cuts: Sequence[Cut]) -> list[Aligned | Skipped]:
        """One result per cut, in order; independent of which cuts come together."""


MakeAligner = Callable[[], Aligner]  # to be called in each process, so picklable


def words_journal(path: Path, settings: Mapping[str, object]) -> Journal[Aligned | Skipped]:
    """The journal of an alignment. What could not be aligned is tried again."""
    return Journal(path, settings, to_row, from_row)


def to_row(result: Aligned | Skipped) -> dict[str, Any]:
    """A result as JSON values."""
    return vars(result)


def from_row(row: dict[str, Any]) -> Aligned | None:
    """The inverse of `to_row`; None where there are no words."""
    return Aligned(row["id"], [AlignmentItem(*item) for item in row["words"]]) if "words" in row else None


def align_all(
    make_aligner: MakeAligner,
    cuts: Iterable[Cut],
    total: int,
    journal: Journal[Aligned | Skipped],
    jobs: int,
    scheduler: str = "",
) -> None:
    """Align every cut that the journal does not have yet, with the workers of `start_workers`."""
    journal.open()
    left = (cut for cut in cuts if cut.id not in journal.done)
    count = -(-(total - len(journal.done)) // CHUNK)
    with start_workers(jobs, scheduler) as workers:
        batches = workers.map(partial(work, make_aligner), chunked(left, CHUNK))
        for results in progress(batches, count, "aligning", f"batches of {CHUNK}"):
            journal.add({result.id: result for result in results})


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
