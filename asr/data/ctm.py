"""Times of words in NIST's CTM."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lhotse.supervision import AlignmentItem

from asr.errors import InputError
from asr.files import replacing


@dataclass(frozen=True)
class Aligned:
    """The words of an utterance with their times, in seconds from its start."""

    id: str
    words: list[AlignmentItem]


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
