"""Whether two decodings of one set differ, by the utterances that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from asr.score.bootstrap import Difference, paired_difference
from asr.score.report import HYPOTHESES, Rate, read_score
from asr.score.wer import Score, units


@dataclass(frozen=True)
class Comparison:
    """Two scores by the utterances that have the same id and transcript in both.

    difference: of the rates of these, first minus second; None where they have no words. utterances: how many they are.
    only_first, only_second: how many the other does not have. changed: how many have another transcript there.
    """

    difference: Difference | None
    utterances: int
    only_first: int
    only_second: int
    changed: int

    def note(self, first: str, second: str) -> str:
        """What is not in it, of scores with these names; "" where both are of the same set."""
        left_out = {
            f"only in {first}": self.only_first,
            f"only in {second}": self.only_second,
            "with another transcript": self.changed,
        }
        parts = [f"{count} {where}" for where, count in left_out.items() if count]
        return f"compared by the {self.utterances} utterances of both: {', '.join(parts)}" if parts else ""


def compare(first: Score, second: Score) -> Comparison:
    """Two scores in the same unit, beside each other."""
    one, other = ({scored.utterance.id: scored for scored in score.per_utterance} for score in (first, second))
    common = [name for name in one if name in other]
    said = {name: units(one[name].utterance.reference, first.unit) for name in common}
    same = [name for name in common if units(other[name].utterance.reference, first.unit) == said[name]]
    errors = ([scored[name].errors.total for name in same] for scored in (one, other))
    words = [len(said[name]) for name in same]
    difference = paired_difference(words, *errors) if sum(words) else None
    counts = len(one) - len(common), len(other) - len(common), len(common) - len(same)
    return Comparison(difference, len(same), *counts)


class Pair(NamedTuple):
    """Two directories of decodings, and how they compare."""

    first: str
    second: str
    comparison: Comparison


def against_best(rates: Mapping[str, Rate]) -> list[Pair]:
    """Directories of decodings, each with the one of the same set that has the lowest rate, by their paths.

    Those whose rates are of words are apart from those of characters, and so are those of texts that were normalised.
    Directories without hypotheses are left out. Raises InputError where these cannot be read.
    """
    best: dict[str, Score] = {}
    pairs = []
    for path in sorted(filter(has_hypotheses, rates), key=lambda path: rates[path].percent):
        score, kind = read_score(Path(path)), (rates[path].name, rates[path].normalized)
        alike = (one for one in best if (rates[one].name, rates[one].normalized) == kind)
        better = next((one for one in alike if ids(score) & ids(best[one])), None)
        if better is None:
            best[path] = score
        else:
            pairs.append(Pair(path, better, compare(score, best[better])))
    return pairs


def alone(rates: Mapping[str, Rate], pairs: Sequence[Pair]) -> list[str]:
    """Those that have hypotheses, and nothing to be compared with."""
    compared = {path for pair in pairs for path in pair[:2]}
    return [path for path in filter(has_hypotheses, rates) if path not in compared]


def has_hypotheses(path: str) -> bool:
    """Whether a directory tells what was recognised."""
    return (Path(path) / HYPOTHESES).is_file()


def ids(score: Score) -> set[str]:
    """Those of the utterances."""
    return {scored.utterance.id for scored in score.per_utterance}
