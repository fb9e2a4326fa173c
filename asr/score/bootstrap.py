"""How far an error rate can be trusted, and whether two differ: a bootstrap (Bisani and Ney, ICASSP 2004).

As many utterances as there are get drawn from them, with replacement, again and again; the error rates of the draws
spread as the rate would over other sets of this size. The words of one utterance stay together, because their errors
are not independent: noise, or a speaker, spoils many of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

REPLICATIONS = 10_000
SEED = 0
TAILS = (0.025, 0.975)  # the ends of 95 %
FEWEST = 10  # utterances that tell of others; see docs/scores.md for how often intervals of few hold the truth
_BLOCK = 500  # draws at a time: memory


class Interval(NamedTuple):
    """What holds a rate, or a difference of rates, with 95 % confidence; percent."""

    low: float
    high: float

    def __str__(self) -> str:
        """As `4.6-8.7`, with no more digits than the draws tell."""
        low, high = self.digits()
        return f"{low}-{high}"

    def digits(self, sign: str = "") -> tuple[str, str]:
        """Both ends as text. sign: "+" for one before positive numbers as well."""
        form = f"{sign}.{1 if self.high - self.low >= 1 else 2}f"
        return format(self.low, form), format(self.high, form)


@dataclass(frozen=True)
class Difference:
    """How two systems differ on the same utterances.

    points: error rate of the first minus that of the second, percentage points; interval: of it, None where nothing can
    be told. better: the probability that the first has the lower rate (draws in which both are the same count half).
    """

    points: float
    interval: Interval | None
    better: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves one of them better than the other."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


def rate_interval(errors: Sequence[int], words: Sequence[int]) -> Interval | None:
    """The interval of the error rate, percent, of utterances with so many errors and words in the reference, each (n,).

    None where drawing them tells nothing: they are fewer than `FEWEST`, have no error, or all the same rate.
    """
    return _interval(resampled_rates(errors, words)) if len(words) >= FEWEST else None


def paired_difference(words: Sequence[int], first: Sequence[int], second: Sequence[int]) -> Difference:
    """How two systems differ that have so many errors in the same utterances, each (n,). Some utterance has words.

    Both are drawn together, so what makes an utterance hard for both of them is not in the interval.
    """
    more = np.subtract(first, second)
    draws = resampled_rates(more, words)
    better = float(np.mean(draws < 0) + np.mean(draws == 0) / 2)
    return Difference(100 * int(more.sum()) / sum(words), _interval(draws) if len(words) >= FEWEST else None, better)


def resampled_rates(errors: Sequence[int] | np.ndarray, words: Sequence[int]) -> np.ndarray:
    """Error rates, percent, of draws from n > 0 utterances; without draws that have no words.

    Utterances with the same counts are drawn together, how many of them: so the time goes by how many differ, and the
    order of the utterances does not matter.
    """
    kinds, sizes = np.unique(np.column_stack([errors, words]), axis=0, return_counts=True)
    generator, share = np.random.default_rng(SEED), sizes / len(words)
    blocks = [generator.multinomial(len(words), share, _BLOCK) @ kinds for _ in range(REPLICATIONS // _BLOCK)]
    total_errors, total_words = np.concatenate(blocks).T
    spoken = total_words > 0
    return 100 * total_errors[spoken] / total_words[spoken]


def _interval(draws: np.ndarray) -> Interval | None:
    """What holds all but the tails of the draws; None where these are all the same, or none."""
    if not len(draws) or draws.min() == draws.max():
        return None
    return Interval(*map(float, np.quantile(draws, TAILS)))
