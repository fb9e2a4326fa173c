"""Tables of error rates: their columns, and their rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from asr.options import differing
from asr.score.bootstrap import Difference
from asr.score.comparison import Pair
from asr.score.report import Rate
from asr.score.wer import RATES

DIFFERENCES = ("decoding", "against", "difference", "95 %", "better with", "differ", "utterances")


def decodings(rates: Mapping[str, Rate], settings: Mapping[str, dict[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """The columns of a table of directories that were decoded into, the lowest error rate first.

    settings: what they were decoded with, where that is known; what differs has a column.
    """
    names = list(RATES.values())
    order = sorted(rates, key=lambda path: (names.index(rates[path].name), rates[path].percent))
    yield "decoding", order
    for name in differing([settings[path] for path in order]):
        yield name, [settings[path].get(name, "") for path in order]
    yield from rate_columns("error rate", [rates[path] for path in order])
    yield from note_columns("", [rates[path] for path in order])


def rate_columns(title: str, rates: Sequence[Rate | None]) -> Iterator[tuple[str, list[str]]]:
    """A column of word error rates; where there are others, too, one for each kind, with its name."""
    known = [rate for rate in rates if rate and math.isfinite(rate.percent)]
    kinds = [name for name in RATES.values() if any(rate.name == name for rate in known)]
    for kind in kinds or ["wer"]:
        cells = [shown(rate) if rate and rate.name == kind else "" for rate in rates]
        yield title if kinds in ([], ["wer"]) else f"{title} {kind.upper()}", cells


def note_columns(prefix: str, rates: Sequence[Rate | None]) -> Iterator[tuple[str, list[str]]]:
    """A column each for utterances that are not in rates, and for what texts were brought to, where there are such."""
    for title, cells in (
        ("not scored", [rate.not_scored if rate else "" for rate in rates]),
        ("normalised", [rate.normalized if rate else "" for rate in rates]),
    ):
        if any(cells):
            yield prefix + title, cells


def shown(rate: Rate) -> str:
    """A rate in percent, with what holds it; nothing where there is none."""
    within = f" ({rate.interval})" if rate.interval else ""
    return f"{rate.percent:.2f}{within}" if math.isfinite(rate.percent) else ""


def differences(pairs: Iterable[Pair]) -> Iterator[list[str]]:
    """The cells of a table of comparisons, below `DIFFERENCES`."""
    for first, second, comparison in pairs:
        yield [first, second, *cells(comparison.difference), str(comparison.utterances)]


def cells(difference: Difference | None) -> list[str]:
    """What a difference comes to, in percentage points, with whose rate is lower how probably."""
    if difference is None:
        return ["", "", "", ""]
    ends = " to ".join(difference.interval.digits("+")) if difference.interval else ""
    return [f"{difference.points:+.2f}", ends, chance(difference.better), "yes" if difference.clear else "no"]


def chance(share: float) -> str:
    """A probability in percent, neither none nor certain."""
    if not 0.01 <= share <= 0.99:
        return "< 1 %" if share < 0.5 else "> 99 %"
    return f"{100 * share:.0f} %"
