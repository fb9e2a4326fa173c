"""Subtitles beside long recordings, SubRip's and WebVTT's: a cue becomes an utterance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from asr.data.scripts import joined
from asr.data.sources.row import Place, Row, Source, seconds
from asr.errors import InputError
from asr.files import sound_lines

TIMES = re.compile(r"\s*(?P<start>[\d:.,]+)\s*-->\s*(?P<end>[\d:.,]+)")
MARKUP = re.compile(r"<[^>]*>|\{\\[^}]*\}")  # of colours, voices and places on the screen
UNTIMED = ("WEBVTT", "NOTE", "STYLE", "REGION")  # blocks of WebVTT that are no cues


def read_subtitles(source: Source, ending: str) -> Iterator[Row]:
    """A row for each cue of FILE.srt or FILE.vtt; FILE is the recording."""
    for path in source.files(ending):
        for number, block in blocks(source, path):
            place = source.place(path, number)
            try:
                yield from cue(place, source.locate(path.stem), block)
            except InputError as error:
                source.fault(place, str(error))


read_srt = partial(read_subtitles, ending=".srt")
read_vtt = partial(read_subtitles, ending=".vtt")


def blocks(source: Source, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines between blank ones, with the number of the first."""
    lines = sound_lines(path, lambda number, reason: source.fault(source.place(path, number), reason))
    for filled, block in groupby(lines, key=lambda line: bool(line[1].strip())):
        if filled:
            numbered = list(block)
            yield numbered[0][0], [line for _, line in numbered]


def cue(place: Place, audio: Path, block: list[str]) -> Iterator[Row]:
    """The row of a block; none of one without text, or that is no cue. Raises InputError where it has no times."""
    if block[0].startswith(UNTIMED):
        return
    at = next((n for n, line in enumerate(block[:2]) if TIMES.match(line)), None)
    if at is None:
        raise InputError("not a cue, `start --> end` and then its text; mend it, or take out the blank line before it")
    times = TIMES.match(block[at])
    assert times
    said = [MARKUP.sub("", line).strip() for line in block[at + 1 :]]
    text = joined([line for line in said if line])
    if text:
        yield Row(place, audio, text, start=seconds(times["start"], "start"), end=seconds(times["end"], "end"))
