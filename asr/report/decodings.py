"""What was decoded into the directories of runs: error rates, frequent errors, and every utterance."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError
from asr.report.runs import Run
from asr.score.comparison import Comparison, compare
from asr.score.delay import read_delays
from asr.score.record import Record, read_record
from asr.score.report import HYPOTHESES, Rate, mark, read_rate, read_score
from asr.score.wer import Score, ScoredUtterance

MOST_ERRORS = 12  # of a kind that are listed


@dataclass(frozen=True)
class Decoding:
    """A directory that a run was decoded into.

    run: its place among the runs. score: of all utterances; rate: what wer.txt tells of it. delay: what
    `read_delays` returns. record: what it was decoded with, where there is a record of it.
    """

    run: int
    name: str
    path: Path
    score: Score
    rate: Rate
    delay: dict[str, float]
    record: Record | None = None

    @property
    def ids(self) -> frozenset[str]:
        """Of its utterances."""
        return frozenset(one.utterance.id for one in self.score.per_utterance)

    @property
    def cuts(self) -> str:
        """The manifest, as `asr decode` was told it; "" where there is no record of it."""
        return self.record.cuts if self.record else ""


@dataclass(frozen=True)
class LeftOut:
    """A directory that a run was decoded into, and that cannot be read. run: its place among the runs; reason: why."""

    run: int
    reason: str


@dataclass(frozen=True)
class Confusions:
    """The most frequent errors of a decoding: (reference, hypothesis, count), "" where there is none of a side.

    different: how many there are of each kind that differ, those that are not listed included.
    """

    substitutions: list[tuple[str, str, int]]
    deletions: list[tuple[str, str, int]]
    insertions: list[tuple[str, str, int]]
    different: tuple[int, int, int]


def read_decodings(runs: Sequence[Run]) -> tuple[list[Decoding], list[LeftOut]]:
    """Those in the directories of runs, of the same utterances together, the lowest rate of a unit and spelling first;
    and those that cannot be read."""
    found, left_out = list[Decoding](), list[LeftOut]()
    for place, run in enumerate(runs):
        for path in sorted(file.parent for file in run.path.glob("*/wer.txt")):
            try:
                found.append(read_decoding(place, path))
            except InputError as error:
                left_out.append(LeftOut(place, f"{run.name}/{path.name} is left out: {error}"))
    return [one for group in same_utterances(found) for one in sorted(group, key=rank)], left_out


def rank(decoding: Decoding) -> tuple[bool, str, float]:
    """What decodings of a set are ordered by: rates of words before those of characters, which are lower."""
    return decoding.score.unit != "word", decoding.rate.normalized, decoding.score.errors.rate


def read_decoding(run: int, path: Path) -> Decoding:
    """One of them, with its errors counted again. Raises InputError where it is damaged."""
    rate, delay = read_rate(path / "wer.txt"), read_delays(path / "delay.txt")
    if not (path / HYPOTHESES).is_file():
        raise InputError(f"{path}: its {HYPOTHESES} is gone; decode again, or delete the directory")
    return Decoding(run, path.name, path, read_score(path), rate, delay, read_record(path))


def differences(group: Sequence[Decoding]) -> Iterator[tuple[Decoding, Decoding, Comparison]]:
    """Decodings of one set, each with the one that has the lowest rate of those in the same unit and spelling."""
    best: dict[tuple[str, str], Decoding] = {}
    for one in sorted(group, key=lambda one: one.score.errors.rate):
        first = best.setdefault((one.rate.name, one.rate.normalized), one)
        if first is not one:
            yield one, first, compare(one.score, first.score)


def confusions(scored: Score) -> Confusions:
    """The most frequent errors, those that are equally frequent in alphabetical order."""
    pairs = Counter(pair for one in scored.per_utterance for pair in one.alignment)
    kinds = [Counter({pair: n for pair, n in pairs.items() if mark(pair) == kind}) for kind in "SDI"]
    substitutions, deletions, insertions = map(most_frequent, kinds)
    return Confusions(substitutions, deletions, insertions, (len(kinds[0]), len(kinds[1]), len(kinds[2])))


def most_frequent(pairs: Counter[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """Those that are listed."""
    ranked = sorted(pairs.items(), key=lambda one: (-one[1], one[0]))
    return [(*pair, count) for pair, count in ranked[:MOST_ERRORS]]


def sampled(scored: Score, most: int) -> list[ScoredUtterance]:
    """Utterances to list, in their order: all, or of too many the half of `most` with most errors, and as many others
    that are drawn at random, always the same."""
    everything = scored.per_utterance
    if len(everything) <= most:
        return everything
    ranked = sorted(range(len(everything)), key=lambda place: -everything[place].errors.total)
    drawn = random.Random(0).sample(ranked[most // 2 :], most - most // 2)
    return [everything[place] for place in sorted([*ranked[: most // 2], *drawn])]


def row(scored: ScoredUtterance) -> list[str | float | None]:
    """An utterance as the page's script reads it: id; reference; a letter for each pair of its alignment, S, D, I or =;
    what was recognised in place of S and I; the mean confidence. Words are joined by a blank, which is in none."""
    reference = " ".join(ref for ref, _ in scored.alignment if ref)
    marks = "".join(mark(pair) or "=" for pair in scored.alignment)
    wrong = " ".join(hyp for ref, hyp in scored.alignment if hyp and hyp != ref)
    sure = scored.utterance.confidences
    return [scored.utterance.id, reference, marks, wrong, round(sum(sure) / len(sure), 3) if sure else None]


def same_utterances(decodings: Sequence[Decoding]) -> list[list[Decoding]]:
    """Decodings of the same utterances together, in their order.

    The same ids may be of other sound, as of a test set with noise, so those of several manifests are several sets. One
    without a record goes with the others of its ids where these are of one manifest.
    """
    manifests: dict[frozenset[str], set[str]] = {}
    for one in decodings:
        manifests.setdefault(one.ids, set()).update({one.cuts} - {""})
    groups: dict[tuple[frozenset[str], str], list[Decoding]] = {}
    for one in decodings:
        known = manifests[one.ids]
        cuts = one.cuts or ("".join(known) if len(known) == 1 else "")
        groups.setdefault((one.ids, cuts), []).append(one)
    return [*groups.values()]
