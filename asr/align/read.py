"""Times of words from the files that aligners write: CTM, TextGrid, LibriSpeech-Alignments, Lhotse manifests.

Lhotse and praatio read well-formed files; the readers of text exist because a line that is not well-formed must be
named, and must not cost the rest of the file. Whether the words are those of a transcript is `asr.align.attach`'s
business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from lhotse import CutSet, SupervisionSet
from lhotse.cut import Cut
from lhotse.serialization import load_manifest_lazy
from lhotse.supervision import AlignmentItem, SupervisionSegment

from asr.data.features import one_line
from asr.data.limits import LATEST_SECONDS
from asr.data.words import aligned_words
from asr.errors import InputError, not_installed
from asr.files import sound_lines

ALIGNMENT_TEXT = ".alignment.txt"  # LibriSpeech-Alignments, condensed form


@dataclass
class WordTimes:
    """The words, and silences, of utterances with their times, in seconds, in the order of the file.

    by_id: keyed by what the file calls an utterance: a cut, a supervision or a recording; of a file of a single one, by
    its path below `home`, without the ending. Times count from its start.
    faults: lines and files that could not be read, with their place. source: the file that each utterance is from.
    """

    by_id: dict[str, list[AlignmentItem]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    source: dict[str, Path] = field(default_factory=dict)
    home: Path = field(default_factory=Path)

    def names(self) -> dict[str, str]:
        """The keys by what a cut may be called: as they are; without folders, or some, where only one is called so; and
        with underscores for blanks."""
        called = defaultdict(set)
        for key in self.by_id:
            folders = key.split("/")
            for name in ("/".join(folders[place:]) for place in range(len(folders))):
                called[name].add(key)
                called["_".join(name.split())].add(key)
        single = {name: next(iter(keys)) for name, keys in called.items() if len(keys) == 1}
        return single | {key: key for key in self.by_id}

    def add(self, utterance: str, item: AlignmentItem, path: Path) -> None:
        """Append a word of a file. Raises ValueError where another file has words of this utterance."""
        source = self.source.setdefault(utterance, path)
        if source != path:
            raise ValueError(f"{utterance} is in {source}, too")
        self.by_id.setdefault(utterance, []).append(item)


def read_words(path: Path) -> WordTimes:
    """The words of a file, or of all files below a directory, by their endings:

    .ctm               NIST CTM: `utterance channel start duration word`; the channel and more fields are ignored
    .TextGrid          Praat; the tier "words" (or "… - words"), as the Montreal Forced Aligner writes it; named
                       after the utterance, in folders or not
    .alignment.txt     LibriSpeech-Alignments: `utterance ",A,,B" "0.5,0.9,1.0,1.4"`, the ends of words and silences
    .jsonl, .jsonl.gz  Lhotse cuts or supervisions with "word" alignments

    Raises InputError where there is no such file, or nothing in it can be read.
    """
    files = sorted(p for p in path.rglob("*") if reader_of(p)) if path.is_dir() else [path]
    if not path.exists():
        raise InputError(f"{path}: no such file or directory")
    times = WordTimes(home=path if path.is_dir() else path.parent)
    for file in files:
        read = reader_of(file)
        if read is None:
            raise InputError(f"{file}: unknown kind of file; there are {', '.join(READERS)}")
        read(file, times)
    if not times.by_id:
        reason = times.faults[0] if times.faults else f"{path}: no times of words there ({', '.join(READERS)})"
        raise InputError(reason)
    return times


def read_ctm(path: Path, times: WordTimes) -> None:
    """Add the words of a CTM file; comments begin with `;;`."""
    for place, line in text_lines(path, times):
        if not line or line.startswith(";;"):
            continue
        try:
            utterance, _, start, duration, symbol = line.split()[:5]
            times.add(utterance, word(symbol, float(start), float(duration)), path)
        except ValueError as error:
            times.faults.append(
                f"{place}: not `utterance channel start duration word` ({one_line(error)}): {line[:80]}"
            )


def read_alignment_text(path: Path, times: WordTimes) -> None:
    """Add the words of a file of LibriSpeech-Alignments."""
    for place, line in text_lines(path, times):
        if not line:
            continue
        try:
            utterance, symbols, ends = (part.strip('"') for part in line.split())
            seconds = [0.0, *map(float, ends.split(","))]
            spans = zip(symbols.split(","), pairwise(seconds), strict=True)
            for item in [word(symbol, start, round(end - start, 8)) for symbol, (start, end) in spans]:
                times.add(utterance, item, path)
        except ValueError as error:
            times.faults.append(f'{place}: not `utterance ",WORD,…" "end,…"` ({one_line(error)}): {line[:80]}')


def read_textgrid(path: Path, times: WordTimes) -> None:
    """Add the words of a TextGrid named after its utterance, which may be in a folder of its speaker's."""
    utterance = path.relative_to(times.home).with_suffix("").as_posix()
    try:
        from praatio import textgrid
    except ModuleNotFoundError:
        raise not_installed(f"{path}: praatio", "align") from None
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, duplicateNamesMode="rename")
    except Exception as error:  # praatio has a family of exceptions, and some files escape it
        times.faults.append(f"{path}: not a readable TextGrid ({one_line(error)})")
        return
    names = [name for name in grid.tierNames if isinstance(grid.getTier(name), textgrid.IntervalTier)]
    tiers = [name for name in names if name.lower() == "words" or name.lower().endswith("- words")]
    if not tiers:
        times.faults.append(f"{path}: no tier of intervals called words; it has {', '.join(grid.tierNames) or 'none'}")
    intervals = [entry for name in tiers for entry in grid.getTier(name).entries]
    try:
        for start, end, symbol in sorted(intervals, key=lambda entry: entry[0]):
            times.add(utterance, word(symbol.strip(), start, round(end - start, 8)), path)
    except ValueError as error:
        times.faults.append(f"{path}: {one_line(error)}")


def read_lhotse(path: Path, times: WordTimes) -> None:
    """Add the "word" alignments of a Lhotse manifest of cuts or of supervisions."""
    done = 0
    try:
        manifest = load_manifest_lazy(path.absolute())  # a name that begins with `pipe:` would be run
        if not isinstance(manifest, (CutSet, SupervisionSet)):
            raise TypeError(f"a {type(manifest).__name__}, not cuts or supervisions")
        for entry in manifest:
            add_entry(entry, path, times)
            done += 1
    except Exception as error:  # gzip, JSON and Lhotse each have their own exceptions
        times.faults.append(f"{path}: unreadable after {done} entries ({one_line(error)})")


def add_entry(entry: Cut | SupervisionSegment, path: Path, times: WordTimes) -> None:
    """Add the words of an entry, all or none: one that is at fault must not cost the others."""
    try:
        for item in [word(item.symbol, item.start, item.duration) for item in entry_words(entry)]:
            times.add(entry.id, item, path)
    except (TypeError, ValueError) as error:
        times.faults.append(f"{path}: {entry.id}: {one_line(error)}")


def entry_words(entry: Cut | SupervisionSegment) -> list[AlignmentItem]:
    """The words of a cut, from its start; or of a supervision, whose own times count from the recording's."""
    if isinstance(entry, SupervisionSegment):
        return [item.with_offset(-entry.start) for item in (entry.alignment or {}).get("word", [])]
    return aligned_words(entry)


def word(symbol: str, start: float, duration: float) -> AlignmentItem:
    """A word. Raises ValueError where a time is no number of seconds."""
    if not (abs(start) <= LATEST_SECONDS and abs(duration) <= LATEST_SECONDS):
        raise ValueError("a time out of range")
    return AlignmentItem(symbol, start, duration)


def text_lines(path: Path, times: WordTimes) -> Iterator[tuple[str, str]]:
    """Place and text of each line; a line that is not UTF-8 becomes a fault."""

    def fault(number: int, reason: str) -> None:
        times.faults.append(f"{path}:{number}: {reason}" if number else f"{path}: {reason}")

    for number, line in sound_lines(path, fault):
        yield f"{path}:{number}", line.strip()


Reader = Callable[[Path, WordTimes], None]
READERS: dict[str, Reader] = {
    ".ctm": read_ctm,
    ".TextGrid": read_textgrid,
    ALIGNMENT_TEXT: read_alignment_text,
    ".jsonl": read_lhotse,
    ".jsonl.gz": read_lhotse,
}


def reader_of(path: Path) -> Reader | None:
    """What reads a file of this name, if anything does."""
    return next((read for ending, read in READERS.items() if path.name.lower().endswith(ending.lower())), None)
