"""Times of words onto cuts, where they agree with the transcripts; and a report of how far they do."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path

from lhotse.cut import Cut, MonoCut, MultiCut
from lhotse.supervision import AlignmentItem, SupervisionSegment
from lhotse.utils import fastcopy

from asr.align.read import WordTimes
from asr.data.dataset import transcript
from asr.data.scripts import units_of_text
from asr.data.words import VARIANT, in_order, in_units
from asr.files import write_atomically

SLACK_SECONDS = 0.05  # by which rounding may move a word beyond its utterance, or into the word before

# What can be wrong with the times of an utterance, in the order in which it is looked for.
KINDS = ("mixed", "missing", "other words", "reversed", "crossing", "outside")
SILENCES = frozenset({"", "<eps>", "<sil>", "[sil]", "!sil", "sil", "sp", "spn", "<s>", "</s>", "(null)"})


@dataclass
class Coverage:
    """How many utterances got times, and why the others did not.

    refused: kind and description of what was wrong, by cut. unread: lines that could not be read. unused: utterances
    with times that belong to no cut.
    """

    aligned: int = 0
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @property
    def utterances(self) -> int:
        """All utterances, aligned or not."""
        return self.aligned + len(self.refused)

    def line(self) -> str:
        """The counts in one line."""
        counts = Counter(kind for kind, _ in self.refused.values())
        kinds = [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]]
        rest = [f"{len(self.unread)} unreadable lines"] * bool(self.unread)
        rest += [f"{len(self.unused)} that belong to no cut"] * bool(self.unused)
        share = 100 * self.aligned / max(self.utterances, 1)
        return ", ".join([f"{self.aligned} of {self.utterances} utterances aligned ({share:.1f} %)", *kinds, *rest])

    def details(self) -> Iterator[str]:
        """Every fault by name."""
        yield from (f"{utterance}: {kind}: {what}" for utterance, (kind, what) in self.refused.items())
        yield from (f"unreadable: {fault}" for fault in self.unread)
        yield from (f"{utterance}: belongs to no cut" for utterance in self.unused)

    def write(self, path: Path) -> None:
        """The line, then every fault."""
        write_atomically(path, "".join(f"{line}\n" for line in (self.line(), *self.details())).encode())


class Attachment:
    """Puts times onto cuts, one by one, and keeps the account."""

    def __init__(self, times: WordTimes) -> None:
        self.times, self.names, self.used = times, times.names(), set[str]()
        self.coverage = Coverage(unread=times.faults, unused=list(times.by_id))

    def __call__(self, cuts: Iterable[Cut]) -> Iterator[Cut]:
        """All cuts, with times where they could be had; without any alignment of words where not."""
        for cut in cuts:
            words = without_silences(units_of_text(transcript(cut)), self.find(cut))
            fault = find_fault(cut, words)
            if fault:
                self.coverage.refused[cut.id] = fault
            else:
                self.coverage.aligned += 1
            yield with_words(cut, [] if fault or not words else words)
        self.coverage.unused = [utterance for utterance in self.times.by_id if utterance not in self.used]

    def find(self, cut: Cut) -> list[AlignmentItem] | None:
        """The words of a cut, from its start: by its own id, its supervisions', or its recording's."""
        if cut.id in self.names:
            return self.take(cut.id, 0.0)
        found = [self.take(s.id, s.start) for s in in_order(cut) if s.id in self.names]
        if found:
            return [item for words in found for item in words]
        recording = cut.recording_id if isinstance(cut, (MonoCut, MultiCut)) and cut.has_recording else None
        if recording not in self.names:
            return None
        words = self.take(recording, -cut.start)
        if cut.start == 0 and cut.duration >= cut.recording.duration:
            return words  # nothing of the recording is another cut's: what lies outside is a fault
        return [item for item in words if 0 <= item.start + item.duration / 2 < cut.duration]

    def take(self, utterance: str, offset: float) -> list[AlignmentItem]:
        """The words of an utterance that begins at `offset` seconds of a cut; of scripts without blanks, characters."""
        key = self.names[utterance]
        self.used.add(key)
        words = [unit for item in self.times.by_id[key] for unit in in_units(item)]
        return [item.with_offset(offset) for item in words] if offset else words


def find_fault(cut: Cut, words: list[AlignmentItem] | None) -> tuple[str, str] | None:
    """Kind and description of the first thing wrong with the words of a cut."""
    spoken = units_of_text(transcript(cut))
    if not isinstance(cut, (MonoCut, MultiCut)):
        return "mixed", f"a {type(cut).__name__}; attach times before cuts are mixed or joined"
    if words is None:
        return ("missing", "no times") if spoken else None
    for position, (said, item) in enumerate(zip_longest(spoken, words)):
        if said is None or item is None or not same_word(said, item.symbol):
            words_there = ["nothing" if one is None else repr(one) for one in (said, item and item.symbol)]
            return (
                "other words",
                f"word {position + 1} is {words_there[0]} in the transcript, {words_there[1]} in the times",
            )
    for item in words:
        if item.duration < 0:
            return "reversed", f"{item.symbol!r} ends at {item.end:g} s, before it begins at {item.start:g} s"
    for before, item in pairwise(words):
        if item.start < before.end - SLACK_SECONDS:
            return "crossing", f"{item.symbol!r} begins at {item.start:g} s, {before.symbol!r} ends at {before.end:g} s"
    for item in words:
        if item.start < -SLACK_SECONDS or item.end > cut.duration + SLACK_SECONDS:
            return "outside", f"{item.symbol!r} is at {item.start:g} to {item.end:g} s of {cut.duration:g} s"
    return None


def without_silences(spoken: list[str], words: list[AlignmentItem] | None) -> list[AlignmentItem] | None:
    """The timed words but for marks of silence, unless that is the very word that the transcript has there."""
    if words is None:
        return None
    kept: list[AlignmentItem] = []
    for item in words:
        expected = spoken[len(kept)] if len(kept) < len(spoken) else ""
        if item.symbol.lower() not in SILENCES or same_word(expected, item.symbol):
            kept.append(item)
    return kept


def same_word(said: str, timed: str) -> bool:
    """Whether two spellings are of one word: case, and a mark of its pronunciation, do not count."""
    return plain(said) == plain(VARIANT.sub("", timed)) != ""


def plain(word: str) -> str:
    """A word in one case and one Unicode form."""
    return unicodedata.normalize("NFC", word).casefold()


def with_words(cut: Cut, words: list[AlignmentItem]) -> Cut:
    """A copy of a cut whose supervisions have these words, spelt as in the transcript, as their "word" alignment."""
    if not isinstance(cut, (MonoCut, MultiCut)):
        return cut
    rest = iter(words)
    aligned = {id(one): with_alignment(one, rest) for one in in_order(cut)}
    return fastcopy(cut, supervisions=[aligned[id(one)] for one in cut.supervisions])


def with_alignment(supervision: SupervisionSegment, words: Iterator[AlignmentItem]) -> SupervisionSegment:
    """A copy of a supervision with as many of the words as its text has."""
    items = [item._replace(symbol=said) for said, item in zip(units_of_text(supervision.text or ""), words)]
    others = {kind: found for kind, found in (supervision.alignment or {}).items() if kind != "word"}
    return fastcopy(supervision, alignment={**others, "word": items} if items else others or None)
