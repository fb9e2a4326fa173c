"""What was decoded into the directories of runs: error rates, frequent errors, and every utterance."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError
from asr.report.runs import Run
from asr.runs.result import read_rate
from asr.score.report import mark, read_hypotheses, read_not_scored
from asr.score.wer import RATES, Score, ScoredUtterance, score

MOST_ERRORS = 12  # of a kind that are listed
RATES_UNITS = {rate: unit for unit, rate in RATES.items()}


@dataclass(frozen=True)
class Decoding:
    """A directory that a run was decoded into.

    run: its place among the runs. score: of all utterances; missing: how many are not in it, "" where all are.
    delay: the line of `delay.txt`, "" where there is none.
    """

    run: int
    name: str
    path: Path
    score: Score
    missing: str
    delay: str

    @property
    def ids(self) -> frozenset[str]:
        """Of its utterances."""
        return frozenset(one.utterance.id for one in self.score.per_utterance)


@dataclass(frozen=True)
class Confusions:
    """The most frequent errors of a decoding: (reference, hypothesis, count), "" where there is none of a side.

    different: how many there are of each kind that differ, those that are not listed included.
    """

    substitutions: list[tuple[str, str, int]]
    deletions: list[tuple[str, str, int]]
    insertions: list[tuple[str, str, int]]
    different: tuple[int, int, int]


def read_decodings(runs: Sequence[Run]) -> Iterator[Decoding]:
    """Those in the directories of runs. Raises InputError where one is damaged."""
    for place, run in enumerate(runs):
        for path in sorted(run.path.glob("*/wer.txt")):
            yield read_decoding(place, path.parent)


def read_decoding(run: int, path: Path) -> Decoding:
    """One of them, scored again in the unit that it was scored in."""
    rates, hypotheses, delay = path / "wer.txt", path / "hypotheses.jsonl", path / "delay.txt"
    if not hypotheses.is_file():
        raise InputError(f"{path}: its hypotheses.jsonl is gone; decode again, or delete the directory")
    scored = score(read_hypotheses(hypotheses), RATES_UNITS[read_rate(rates).name])
    told = delay.read_text(encoding="utf-8").strip().removeprefix("delay: ") if delay.is_file() else ""
    return Decoding(run, path.name, path, scored, read_not_scored(rates), told)


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
    """Decodings of the same utterances together, in their order."""
    groups: dict[frozenset[str], list[Decoding]] = {}
    for one in decodings:
        groups.setdefault(one.ids, []).append(one)
    return [*groups.values()]
