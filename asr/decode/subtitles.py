"""Subtitles: SubRip (.srt) and WebVTT (.vtt) from the times of words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from asr.data.scripts import joined, width
from asr.decode.transcript import Word

LINE_CHARACTERS = 42  # of a line that is easily read, ideographs counted twice; a cue has up to two
LONGEST_SECONDS = 6.0  # that a cue stays
PAUSE_SECONDS = 0.8  # after which a new one begins


def cues(words: Iterable[Word]) -> Iterator[list[Word]]:
    """The words of each cue: it ends at a pause, or when it is full."""
    cue: list[Word] = []
    for word in words:
        if cue and not fits(cue, word):
            yield cue
            cue = []
        cue.append(word)
    if cue:
        yield cue


def fits(cue: Sequence[Word], word: Word) -> bool:
    """Whether a word can follow in the same cue."""
    near = word.start - cue[-1].end <= PAUSE_SECONDS
    widest = max(map(width, lines_of([*cue, word]).split("\n")))
    return near and widest <= LINE_CHARACTERS and word.end - cue[0].start <= LONGEST_SECONDS


def text_of(cue: Sequence[Word]) -> str:
    """The words in one line."""
    return joined([word.text for word in cue])


def lines_of(cue: Sequence[Word]) -> str:
    """The words in one line, or in two of about the same length."""
    text = text_of(cue)
    if width(text) <= LINE_CHARACTERS or len(cue) < 2:
        return text
    lines = [(text_of(cue[:n]), text_of(cue[n:])) for n in range(1, len(cue))]
    return "\n".join(min(lines, key=lambda two: max(map(width, two))))


def timestamp(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and, after `point`, milliseconds."""
    minutes, milliseconds = divmod(round(1000 * max(seconds, 0.0)), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


def spans(found: Sequence[Sequence[Word]]) -> list[tuple[float, float]]:
    """When each cue is shown: no two at a time."""
    starts = [cue[0].start for cue in found]
    ends = [cue[-1].end for cue in found]
    return [(start, min(end, after)) for start, end, after in zip(starts, ends, [*starts[1:], float("inf")])]


def subrip(words: Iterable[Word]) -> str:
    """The text of an .srt file."""
    found = list(cues(words))
    return "\n".join(
        f"{n}\n{timestamp(start, ',')} --> {timestamp(end, ',')}\n{lines_of(cue)}\n"
        for n, (cue, (start, end)) in enumerate(zip(found, spans(found)), 1)
    )


def webvtt(words: Iterable[Word]) -> str:
    """The text of a .vtt file."""
    found = list(cues(words))
    shown = (
        f"{timestamp(start, '.')} --> {timestamp(end, '.')}\n{escaped(lines_of(cue))}\n"
        for cue, (start, end) in zip(found, spans(found))
    )
    return "\n".join(["WEBVTT\n", *shown])


def escaped(text: str) -> str:
    """WebVTT reads these as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
