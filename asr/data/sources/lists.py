"""Lists of transcripts without a header, a line an utterance, which call audio files by their names.

LJSpeech's `metadata.csv` is one; so are Kaldi's `text` without its `wav.scp`, and the transcriptions of Sphinx.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from asr.data.limits import AUDIO_ENDINGS
from asr.data.sources.folder import audio_below
from asr.data.sources.row import Row, Source, is_file
from asr.data.sources.table import numbered_lines
from asr.errors import InputError
from asr.files import sound_lines

COMMENTS = (";", "#")
BARS = "name|text, or name|text|text as spoken"
SHAPES = {  # what a line may look like, in words
    "name<TAB>text": re.compile(r"(?P<name>[^\t]+)\t(?P<text>[^\t]*)"),
    BARS: re.compile(r"(?P<name>[^|]+)\|(?:[^|]*\|)?(?P<text>[^|]*)"),
    "name: text": re.compile(r"(?P<name>[^:]+):(?P<text>.*)"),
    "text (name)": re.compile(r"(?:<s>)?(?P<text>.*?)(?:</s>)?\s*\((?P<name>[^()]+)\)"),
    "name text": re.compile(r"(?P<name>\S+)\s+(?P<text>.*)"),
}
TRIED = 100  # lines that are looked at to find out which


@dataclass
class Audio:
    """The audio that a list may name: beside it, as that of a table, or anywhere below."""

    source: Source

    @cached_property
    def by_stem(self) -> Mapping[str, Sequence[Path]]:
        """The audio files at any depth, by their names without folder and ending."""
        files = defaultdict(list)
        for path in audio_below(self.source.audio_dir or self.source.home):
            files[path.stem].append(path)
        return files

    def called(self, name: str) -> Sequence[Path]:
        """The files that a name may mean; its ending, and the first of its folders, may be left out."""
        beside = self.source.locate(name)
        if is_file(beside):
            return [beside]
        last = Path(name)
        whole = last.suffix.lower() in AUDIO_ENDINGS
        found = self.by_stem.get(last.stem if whole else last.name, ())
        return [
            path for path in found if f"/{(path if whole else path.with_suffix('')).as_posix()}".endswith(f"/{name}")
        ]

    def locate(self, name: str) -> Path:
        """The file of a name; where it should be, if there is none. Raises InputError where there are several."""
        found = self.called(name)
        if len(found) > 1:
            listed = " and ".join(str(self.source.place(path)) for path in found[:2])
            raise InputError(f"{name} may be {listed}; write the folder before the name")
        return found[0] if found else self.source.locate(name)


def read_list(source: Source) -> Iterator[Row]:
    """A row for each line that is no comment. Raises InputError where no line names audio that is there."""
    shape = shape_of(source)
    if shape is None:
        listed = ", ".join(f"`{one}`" for one in SHAPES)
        raise InputError(f"{source.path}: no line names audio that is there ({listed}); say where it is, audio_dir=…")
    yield from rows_of(source, source.path, shape)


def read_ljspeech(source: Source) -> Iterator[Row]:
    """A row for each line of `metadata.csv`, beside a folder `wavs`; the last column is the transcript."""
    (path,) = source.files("metadata.csv")
    yield from rows_of(source, path, BARS)


def rows_of(source: Source, path: Path, shape: str) -> Iterator[Row]:
    """The rows of lines of a shape; others are named."""
    audio = Audio(source)
    for number, line in without_comments(numbered_lines(source, path)):
        place = source.place(path, number)
        try:
            name, text = parsed(shape, line)
            yield Row(place, audio.locate(name), text, id=name)
        except InputError as error:
            source.fault(place, str(error))


def parsed(shape: str, line: str) -> tuple[str, str]:
    """Name and text of a line. Raises InputError where it is of another shape."""
    match = SHAPES[shape].fullmatch(line.strip())
    if match is None or not match["name"].strip():
        raise InputError(f"not `{shape}`; mend the line")
    return match["name"].strip(), match["text"].strip()


def shape_of(source: Source) -> str | None:
    """The shape in which most of the first lines name audio that is there; None where none does."""
    audio = Audio(source)
    lines = [line for _, line in islice(without_comments(sound_lines(source.path, lambda *_: None)), TRIED)]
    found = {shape: sum(names_audio(audio, shape, line) for line in lines) for shape in SHAPES}
    best = max(found, key=lambda shape: found[shape])
    return best if found[best] else None


def names_audio(audio: Audio, shape: str, line: str) -> bool:
    """Whether a line of this shape names audio that is there."""
    try:
        return bool(audio.called(parsed(shape, line)[0]))
    except InputError:
        return False


def without_comments(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    return ((number, line) for number, line in lines if line.strip() and not line.startswith(COMMENTS))
