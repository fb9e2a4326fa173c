"""What every reader of a corpus hands on: rows, and what is wrong with those that are none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lhotse.supervision import AlignmentItem

from asr.data.limits import AUDIO_ENDINGS, LATEST_SECONDS, SHOWN_CHARACTERS
from asr.errors import InputError

AUDIO_FOLDERS = ("", "clips", "wavs", "wav", "audio", "sph")  # beside a table, where its audio may lie
CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d(?:[.,]\d*)?)")  # hours, minutes and seconds, as subtitles have them

# For a point: of 1,250 nobody knows whether it is one and a quarter or 1250.
COMMA = re.compile(r"(?<=^0),(?=\d+$)|,(?=\d{1,2}$|\d{4,}$)")


class Place(NamedTuple):
    """Where a row is described: a line of a file, counted from 1; 0: the file itself.

    path: as it counts from what the user named; see `Source.place`.
    """

    path: Path
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path.as_posix()}:{self.line}" if self.line else self.path.as_posix()


class Fault(NamedTuple):
    """What is wrong at a place, and the remedy."""

    place: Place
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True)
class Row:
    """An utterance as a corpus describes it: the fields are there, and nothing else has been checked.

    audio: the file; it need not exist. text: the transcript. id: "" where the audio's name and the times are to be it.
    speaker, language: "" where unknown. start, end: seconds from the beginning of the audio; end None: where it ends.
    channel: of the audio, from 0; None: the mean of all. words: their times, seconds from `start`; none where unknown.
    """

    place: Place
    audio: Path
    text: str
    id: str = ""
    speaker: str = ""
    language: str = ""
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    words: tuple[AlignmentItem, ...] = ()


@dataclass
class Source:
    """A corpus that is being read.

    path: what the user named. audio_dir: where the names of audio files count from; None: beside the file that names
    them. columns: names of columns that the user gave, by what they hold. faults: collected on the way. unused: the
    columns of a table that nothing is made of.
    """

    path: Path
    audio_dir: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @cached_property
    def home(self) -> Path:
        """Where names of files count from: the directory that the user named, or that of the file."""
        return self.path if self.path.is_dir() else self.path.parent

    def place(self, path: Path, line: int = 0) -> Place:
        """A line of a file, or the file itself, by a name that no other file of the corpus has."""
        return Place(below(self.home, path), line)

    def fault(self, place: Place, reason: str) -> None:
        """Name a row that cannot be used."""
        self.faults.append(Fault(place, reason))

    def files(self, ending: str) -> list[Path]:
        """The file that the user named, or those with this ending in the directory."""
        return sorted(self.path.glob(f"*{ending}")) if self.path.is_dir() else [self.path]

    @cached_property
    def folders(self) -> Sequence[Path]:
        """Where audio may lie."""
        if self.audio_dir is not None:
            return [self.audio_dir]
        return [folder for folder in (self.home / name for name in AUDIO_FOLDERS) if folder.is_dir()]

    def locate(self, name: str) -> Path:
        """The audio file called `name`, whose ending may be left out; where it should be, if there is none.

        Tables that were made on Windows have backslashes between folders.
        """
        names = [one + ending for one in (name, name.replace("\\", "/")) for ending in ("", *AUDIO_ENDINGS)]
        places = (folder / one for one in names for folder in self.folders)
        return next((place for place in places if is_file(place)), self.folders[0] / name)


def is_file(path: Path) -> bool:
    """Whether there is such a file; there is none of a name that no file can have, such as a long transcript."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def below(home: Path, path: Path) -> Path:
    """The path of a file as it counts from a directory; unchanged where it lies elsewhere."""
    return path.relative_to(home) if path.is_relative_to(home) else path


def seconds(text: object, what: str) -> float:
    """A time, in seconds, or in hours, minutes and seconds. Raises InputError where it is none from 0 on."""
    written = str(text).strip()
    clock = CLOCK.fullmatch(written)
    try:
        value = clock_seconds(clock) if clock else float(COMMA.sub(".", written))
    except ValueError:
        value = -1.0
    if not 0 <= value <= LATEST_SECONDS:
        shown = str(text)[:SHOWN_CHARACTERS]
        raise InputError(f"{what} {shown!r} is no number of seconds; write one such as 12.34, or 1:02:03.5")
    return value


def clock_seconds(clock: re.Match[str]) -> float:
    """Seconds of a match of CLOCK."""
    hours, minutes, rest = clock.groups(default="0")
    return 3600.0 * int(hours) + 60.0 * int(minutes) + float(rest.replace(",", "."))


def channel(text: str) -> int:
    """A channel, counted from 0, of NIST's name for it: 1 or A, 2 or B, and so on. Raises InputError."""
    name = text.strip().upper()
    number = ord(name) - ord("A") if len(name) == 1 and name.isalpha() else int(name) - 1 if name.isdigit() else -1
    if not 0 <= number < 64:
        raise InputError(f"channel {text!r} is none; write 1 or A for the first")
    return number
