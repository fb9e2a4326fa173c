"""Reading Lhotse manifests: lazily, and with a clear word where one is damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from asr.data.features import one_line
from asr.data.shar import is_shar, read_shar
from asr.data.sources.row import AUDIO_ENDINGS
from asr.data.words import aligned_words
from asr.errors import InputError

AGAIN = "prepare the corpus again (`asr manifest`, or stage 0 of a recipe's run.sh)"


def open_cuts(paths: list[str]) -> CutSet:
    """The cuts of one or more manifests or directories of Shar, read lazily, in the order given.

    Raises InputError for a missing or unreadable manifest; where damage lies deeper, on the way through it.
    """
    if not paths:
        raise InputError("no manifest given: name at least one cuts_*.jsonl.gz")
    manifests = Manifests(paths)
    for path in paths:
        if not (Path(path).is_file() or is_shar(Path(path))):
            raise InputError(f"{path}: {why_not(Path(path))}")
        if next(manifests.read(path), None) is None:
            raise InputError(f"{path}: holds no cuts; {AGAIN}")
    return CutSet(manifests)


def unique_ids(cuts: CutSet) -> list[str]:
    """The ids of all cuts, in order. Raises InputError where two are the same."""
    seen: dict[str, None] = {}
    for cut in cuts:
        if cut.id in seen:
            raise InputError(f"two cuts are called {cut.id}: give each utterance its own id")
        seen[cut.id] = None
    return list(seen)


class Manifests:
    """The cuts of manifests, one after the other."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[Cut]:
        for path in self.paths:
            yield from self.read(path)

    def read(self, path: str) -> Iterator[Cut]:
        """The cuts of one manifest. Raises InputError at the first line that is not a cut."""
        done = 0
        try:
            for cut in read_shar(Path(path)) if Path(path).is_dir() else CutSet.from_jsonl_lazy(path):
                if not isinstance(cut, Cut):
                    raise TypeError(f"a {type(cut).__name__}")
                check_times(cut)
                yield cut
                done += 1
        except InputError:
            raise
        except Exception as error:  # gzip, JSON and Lhotse each have their own exceptions
            if done:
                raise InputError(f"{path}: damaged after {done} cuts ({one_line(error)}); {AGAIN}") from error
            raise InputError(f"{path}: not a manifest of cuts ({one_line(error)}); {how_to_make(path)}") from error


def why_not(path: Path) -> str:
    """Why there is no manifest at a path, and the remedy."""
    if path.is_dir():
        return f"a directory, not a manifest; {how_to_make(path)}"
    return "no such manifest; `asr manifest` makes one of a corpus, stage 0 of run.sh that of a recipe"


def how_to_make(corpus: Path | str) -> str:
    """How a manifest of a corpus is made, or what reads an audio file."""
    if Path(corpus).suffix.lower() in AUDIO_ENDINGS:
        return f"`asr transcribe {corpus}` reads audio files"
    return f"make one of it: asr manifest input={corpus} output=cuts.jsonl.gz"


def check_times(cut: Cut) -> None:
    """Raise ValueError or TypeError where the time of a word is no number of seconds."""
    for item in aligned_words(cut):
        if not math.isfinite(item.start + item.duration):
            raise ValueError(f"a time of {item.symbol!r} in {cut.id} is no number of seconds")
