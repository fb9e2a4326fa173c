"""Long recordings whose utterances have times: NIST's STM, CTM and RTTM, Audacity's labels.

A table with columns of times is a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from lhotse.supervision import AlignmentItem

from asr.data import scripts
from asr.data.sources.row import Place, Row, Source, channel, seconds
from asr.data.sources.table import numbered_lines
from asr.errors import InputError

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"  # STM's transcript of what nobody transcribed
PAUSE_SECONDS = 0.5  # between words of a CTM, at which one utterance ends
LONGEST_SECONDS = 20.0  # that an utterance made of a CTM has at most
MARGIN_SECONDS = 0.2  # that it has before its first word and after its last, at most half of the pause

LABEL = re.compile(r"\d+[.,]\d+\t\d+[.,]\d+(\t|$)")  # how a line of Audacity's begins: from and to, seconds

Parse = Callable[[Source, Place, str], Iterator[Row]]


def read_stm(source: Source) -> Iterator[Row]:
    """A row for each line: `recording channel speaker start end <label> text`, where the label may be missing."""
    for path in source.files(".stm"):
        yield from read_lines(source, path, stm_rows)


def read_ctm(source: Source) -> Iterator[Row]:
    """Rows of the words of `recording channel start duration word`, divided at pauses, with their times."""
    words = []
    for path in source.files(".ctm"):
        words += list(read_lines(source, path, ctm_rows))
    words.sort(key=lambda word: (str(word.audio), word.channel, word.start))
    for _, run in groupby(words, key=lambda word: (word.audio, word.channel)):
        groups = list(utterances(list(run)))
        for number, group in enumerate(groups):
            before = groups[number - 1][-1].end if number else 0.0
            after = groups[number + 1][0].start if number + 1 < len(groups) else None
            yield joined(group, before or 0.0, after)


def read_rttm(source: Source) -> Iterator[Row]:
    """A row for each SPEAKER of an RTTM; the line of the same number of FILE.txt, beside FILE.rttm, is its text."""
    for path in source.files(".rttm"):
        texts = path.with_suffix(".txt")
        if not texts.is_file():
            source.fault(source.place(path), f"there is no {texts.name} beside it; write a line there for each SPEAKER")
            continue
        turns = list(read_lines(source, path, rttm_rows))
        lines = list(numbered_lines(source, texts))
        if len(turns) != len(lines):
            reason = f"{len(turns)} lines of SPEAKER, but {texts.name} has {len(lines)}; write one for each"
            source.fault(source.place(path), reason)
            continue
        for turn, (_, text) in zip(turns, lines):
            yield Row(turn.place, turn.audio, text, speaker=turn.speaker, start=turn.start, end=turn.end)


def read_labels(source: Source) -> Iterator[Row]:
    """A row for each label `start<TAB>end<TAB>text` with a text; FILE.txt is the label track of the recording FILE."""
    for path in source.files(".txt"):
        audio = source.locate(path.stem)
        yield from read_lines(source, path, partial(label_rows, audio))


def read_lines(source: Source, path: Path, parse: Parse) -> Iterator[Row]:
    """The rows that `parse` makes of lines that are no comments; lines at fault are named."""
    for number, line in numbered_lines(source, path):
        if line.startswith(";;"):
            continue
        place = source.place(path, number)
        try:
            yield from parse(source, place, line)
        except InputError as error:
            source.fault(place, str(error))


def stm_rows(source: Source, place: Place, line: str) -> Iterator[Row]:
    """The row of a line of an STM; none where nobody transcribed."""
    fields = line.split(maxsplit=5)
    if len(fields) < 5:
        raise InputError("not `recording channel speaker start end <label> text`; mend the line")
    recording, side, speaker, start, end, *rest = fields
    text = rest[0] if rest else ""
    if text.startswith("<") and ">" in text:
        text = text.partition(">")[2].strip()
    if text.upper() != IGNORED:
        begin, stop = seconds(start, "start"), seconds(end, "end")
        yield Row(place, source.locate(recording), text, "", speaker, "", begin, stop, channel(side))


def ctm_rows(source: Source, place: Place, line: str) -> Iterator[Row]:
    """The word of a line of a CTM, as a row."""
    fields = line.split()
    if len(fields) < 5:
        raise InputError("not `recording channel start duration word`; mend the line")
    recording, side, start, duration, word = fields[:5]
    begin = seconds(start, "start")
    end = begin + seconds(duration, "duration")
    if not (word.startswith("<") and word.endswith(">")):  # silence and noise
        yield Row(place, source.locate(recording), word, start=begin, end=end, channel=channel(side))


def rttm_rows(source: Source, place: Place, line: str) -> Iterator[Row]:
    """The turn of a line of an RTTM, without its text; none of lines of other types."""
    fields = line.split()
    if fields[0] != "SPEAKER":
        return
    if len(fields) < 8:
        raise InputError("not `SPEAKER recording channel start duration <NA> <NA> speaker …`; mend the line")
    start = seconds(fields[3], "start")
    end = start + seconds(fields[4], "duration")
    yield Row(place, source.locate(fields[1]), "", speaker=fields[7], start=start, end=end)


def label_rows(audio: Path, source: Source, place: Place, line: str) -> Iterator[Row]:
    """The row of a label; none of one without text, or of the line of frequencies that may follow."""
    if line.startswith("\\"):
        return
    if not LABEL.match(line):
        raise InputError("not `start<TAB>end<TAB>text`, in seconds; mend the line")
    start, end, *text = line.split("\t", 2)
    if text and text[0].strip():
        begin, stop = (seconds(time.replace(",", "."), name) for time, name in ((start, "start"), (end, "end")))
        yield Row(place, audio, text[0], start=begin, end=stop)


def utterances(words: list[Row]) -> Iterator[list[Row]]:
    """Words in order of time, divided where they pause, and where an utterance would be too long."""
    group: list[Row] = []
    for word in words:
        ends = word.end or word.start
        if group and (word.start - (group[-1].end or 0.0) >= PAUSE_SECONDS or ends - group[0].start > LONGEST_SECONDS):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def joined(words: list[Row], before: float, after: float | None) -> Row:
    """The utterance of words; `before`, `after`: where those of its neighbours end and begin, seconds."""
    first, last = words[0].start, words[-1].end or words[-1].start
    start = max(first - MARGIN_SECONDS, (first + before) / 2, 0.0)
    end = last + MARGIN_SECONDS if after is None else min(last + MARGIN_SECONDS, (last + after) / 2)
    items = [
        AlignmentItem(word.text, round(word.start - start, 4), round((word.end or word.start) - word.start, 4))
        for word in words
    ]
    text = scripts.joined([word.text for word in words])
    return Row(words[0].place, words[0].audio, text, start=start, end=end, channel=words[0].channel, words=tuple(items))
