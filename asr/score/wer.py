"""Word and character error rates, counted on one optimal alignment per utterance."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from kaldialign import align

from asr.data.scripts import without_blanks
from asr.errors import InputError
from asr.score.bootstrap import Interval, rate_interval

Unit = Literal["word", "char"]
AUTO = "auto"  # whichever unit the references ask for: see `unit_of`
RATES: dict[Unit, str] = {"word": "wer", "char": "cer"}  # what the error rate of a unit is called
UNITS: dict[Unit, str] = {"word": "words", "char": "characters"}


def ends_of(unit: Unit) -> tuple[str, str]:
    """What the ends of the interval of the error rate are called, among the metrics of a validation."""
    return f"{RATES[unit]}_low", f"{RATES[unit]}_high"


# Neither a word nor a character is ever empty, so the empty string cannot be mistaken for one.
GAP = ""

Alignment = list[tuple[str, str]]
"""Pairs (reference unit, hypothesis unit); `GAP` on the left is an insertion, on the right a deletion."""


@dataclass(frozen=True)
class Utterance:
    """One utterance's id, what was said and what was recognised.

    tokens, times: the pieces of the hypothesis and when each was emitted, seconds; empty where that is not known.
    confidences: the model's probability of each. score: of the hypothesis, nats; None where it is not known.
    """

    id: str
    reference: str
    hypothesis: str
    tokens: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()
    score: float | None = None


@dataclass(frozen=True)
class Errors:
    """Error counts; `words` is the number of units (words or characters) in the reference."""

    words: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0

    @property
    def total(self) -> int:
        """All errors: insertions, deletions and substitutions."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float:
        """Error rate in percent; 0 without errors, infinite for errors against an empty reference."""
        return _percent(self.total, self.words)

    def __add__(self, other: Errors) -> Errors:
        """Sum of the counts, field by field."""
        return Errors(
            words=self.words + other.words,
            insertions=self.insertions + other.insertions,
            deletions=self.deletions + other.deletions,
            substitutions=self.substitutions + other.substitutions,
        )

    def line(self, name: str, unit: Unit = "word", interval: Interval | None = None) -> str:
        """One line in Kaldi's form, with what holds the rate: `%WER 3.21 [ 12 / 374, 1 ins, 2 del, 9 sub ] 95 % 1.7-5.0
        name`."""
        counts = f"{self.insertions} ins, {self.deletions} del, {self.substitutions} sub"
        rate = f"%{RATES[unit].upper()} {self.rate:.2f} [ {self.total} / {self.words}, {counts} ]"
        return f"{rate}{within(interval)} {name}".rstrip()


def within(interval: Interval | None) -> str:
    """What the line of a rate says of its interval: ` 95 % 1.7-5.0`."""
    return f" 95 % {interval}" if interval else ""


class ScoredUtterance(NamedTuple):
    """An utterance with its error counts and the alignment they were counted on."""

    utterance: Utterance
    errors: Errors
    alignment: Alignment


@dataclass(frozen=True)
class Score:
    """Error counts of a set of utterances, which are kept in the order they were given."""

    unit: Unit
    per_utterance: list[ScoredUtterance]

    @property
    def errors(self) -> Errors:
        """Counts summed over all utterances."""
        return sum((scored.errors for scored in self.per_utterance), Errors())

    @cached_property
    def interval(self) -> Interval | None:
        """What holds the error rate; see `asr.score.bootstrap`."""
        counts = [scored.errors for scored in self.per_utterance]
        return rate_interval([one.total for one in counts], [one.words for one in counts])

    @property
    def wrong_utterances(self) -> int:
        """Number of utterances with at least one error."""
        return sum(scored.errors.total > 0 for scored in self.per_utterance)

    @property
    def utterance_error_rate(self) -> float:
        """Percentage of utterances with at least one error."""
        return _percent(self.wrong_utterances, len(self.per_utterance))

    def line(self, name: str) -> str:
        """The summed counts in Kaldi's form, `%WER …` for words and `%CER …` for characters, with the interval."""
        return self.errors.line(name, self.unit, self.interval)

    def utterance_line(self) -> str:
        """The utterance error rate in Kaldi's form, with its interval: `%SER 50.00 [ 52 / 104 ] 95 % 40.4-59.6`."""
        wrong, count = self.wrong_utterances, len(self.per_utterance)
        interval = rate_interval([1] * wrong + [0] * (count - wrong), [1] * count)
        return f"%SER {self.utterance_error_rate:.2f} [ {wrong} / {count} ]{within(interval)}"


def score(utterances: Iterable[Utterance], unit: str = AUTO) -> Score:
    """Count the errors of every utterance and of all of them together.

    Words are what white space separates; characters are counted without white space; which of them is a matter of the
    references (`unit_of`) where the unit is "auto". Letters with accents are the same however Unicode writes them (NFC,
    NFD).

    Raises:
        InputError: `unit` is unknown, there are no utterances, or an id appears twice.
    """
    utterances = list(utterances)
    _check_ids([utterance.id for utterance in utterances])
    chosen = as_unit(unit, (utterance.reference for utterance in utterances))
    return Score(chosen, [_score_utterance(utterance, chosen) for utterance in utterances])


def as_unit(name: str, references: Iterable[str]) -> Unit:
    """The unit of this name, of these references where it is "auto". Raises InputError where there is none."""
    if name == AUTO:
        return unit_of(references)
    if name not in get_args(Unit):
        raise InputError(f"unknown scoring unit '{name}': use one of {', '.join((AUTO, *get_args(Unit)))}")
    return name  # type: ignore[return-value]


def unit_of(references: Iterable[str]) -> Unit:
    """Characters, where more than half of the references have some of a script without blanks; else words."""
    found = [without_blanks(text) for text in references if text and not text.isspace()]
    return "char" if 2 * sum(found) > len(found) else "word"


def units(text: str, unit: Unit) -> list[str]:
    """The words of a text, or its characters without white space."""
    words = text.split()
    return words if unit == "word" else list(_composed("".join(words)))


def count_errors(alignment: Alignment) -> Errors:
    """Count insertions, deletions, substitutions and reference units in an alignment."""
    return Errors(
        words=sum(ref != GAP for ref, _ in alignment),
        insertions=sum(ref == GAP for ref, _ in alignment),
        deletions=sum(hyp == GAP for _, hyp in alignment),
        substitutions=sum(GAP not in (ref, hyp) and ref != hyp for ref, hyp in alignment),
    )


def _check_ids(ids: Sequence[str]) -> None:
    # A perfect score of nothing, or one utterance counted twice, would pass for a result.
    if not ids:
        raise InputError("no utterances to score: give at least one reference with its hypothesis")
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise InputError(f"utterance '{id_}' appears more than once: give each utterance its own id")
        seen.add(id_)


def _score_utterance(utterance: Utterance, unit: Unit) -> ScoredUtterance:
    # Counting on the alignment, not by a second call for the distance, keeps the two consistent:
    # equally short alignments may differ in how they split errors into the three kinds.
    alignment = _align(units(utterance.reference, unit), units(utterance.hypothesis, unit))
    return ScoredUtterance(utterance, count_errors(alignment), alignment)


def _align(reference: list[str], hypothesis: list[str]) -> Alignment:
    """An optimal alignment of units; those that Unicode calls equivalent are the same, as the reference writes them."""
    said, found = iter(reference), iter(hypothesis)
    pairs = []
    for ref, hyp in align(list(map(_composed, reference)), list(map(_composed, hypothesis)), GAP):
        left, right = next(said) if ref != GAP else GAP, next(found) if hyp != GAP else GAP
        pairs.append((left, left if ref == hyp else right))
    return pairs


def _composed(text: str) -> str:
    """The text with every letter and its accents in one character, where there is one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _percent(part: int, whole: int) -> float:
    if whole == 0:
        return float("inf") if part else 0.0
    return 100.0 * part / whole
