"""What was recognised in a recording, for whoever reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

from lhotse.supervision import AlignmentItem

from asr.data.scripts import joined


@dataclass(frozen=True)
class Word:
    """A word, in a script without blanks a character, and when it was said, seconds.

    confidence: the model's probability of the least sure of its pieces.
    """

    text: str
    start: float
    end: float
    confidence: float | None = None


@dataclass(frozen=True)
class Reading:
    """One way to read a recording. score: its log-probability, nats, and what else the search adds to it."""

    text: str
    words: list[Word]
    score: float


@dataclass(frozen=True)
class Transcript:
    """What was recognised in a recording.

    name: of its file, or where it is in a list. nbest: the likeliest ways to read it, best first, as many as the search
    follows. seconds: how long it is, as far as it could be heard. faults: what is wrong with it, in words.
    skipped_seconds: of it that were not transcribed, because they are damaged or more than the memory holds; None where
    nobody knows how many.
    """

    name: str
    nbest: list[Reading]
    seconds: float
    skipped_seconds: float | None = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of the likeliest reading."""
        return self.nbest[0].text

    @property
    def words(self) -> list[Word]:
        """The words of the likeliest reading, with their times; none where it has text that its pieces do not spell."""
        return self.nbest[0].words

    @property
    def in_part(self) -> bool:
        """Whether there is more in the recording than was transcribed."""
        return self.skipped_seconds != 0


def as_word(item: AlignmentItem, begin: float = 0.0) -> Word:
    """A word of a piece that begins at `begin`, seconds."""
    start = round(item.start + begin, 3)
    return Word(item.symbol, start, round(start + item.duration, 8), item.score)


def in_one(pieces: Sequence[Sequence[Reading]]) -> list[Reading]:
    """The likeliest ways to read pieces one after the other, as many as there are of any of them; best first.

    pieces: the readings of each, best first, one or more.
    """
    count = max(map(len, pieces))
    # What a way ends with, and the way before that: or else long recordings would be copied piece by piece.
    best: list[tuple[float, Chain]] = [(0.0, None)]
    for found in pieces:
        ways = product(best, found)
        extended: list[tuple[float, Chain]] = [
            (score + reading.score, (reading, before)) for (score, before), reading in ways
        ]
        best = sorted(extended, key=lambda way: -way[0])[:count]
    return [concatenated(unrolled(chain), score) for score, chain in best]


Chain = tuple[Reading, "Chain"] | None


def unrolled(chain: Chain) -> list[Reading]:
    """The readings of a chain, the first one first."""
    readings = []
    while chain:
        reading, chain = chain
        readings.append(reading)
    return readings[::-1]


def concatenated(readings: Iterable[Reading], score: float) -> Reading:
    """Readings of pieces as one."""
    readings = list(readings)
    words = [word for reading in readings for word in reading.words]
    return Reading(joined([reading.text for reading in readings if reading.text]), words, round(score, 4))
