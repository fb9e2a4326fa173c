"""Intervals of error rates against a bootstrap that can be read at a glance, another library's, and the truth."""

import json
from pathlib import Path

import kaldialign
import numpy as np
import pytest

from asr.score import bootstrap
from asr.score.bootstrap import Interval, paired_difference, rate_interval, resampled_rates

# Words and errors of each utterance of the test parts of digits and AN4, decoded by two models each.
SETS = json.loads((Path(__file__).parent / "counts.json").read_text())
DRAWS = 10_000
NOISE = 4  # standard deviations that chance may account for: once in 16,000 comparisons


def by_the_book(errors, words, seed=1):
    """Error rates (DRAWS,) of as many utterances drawn with replacement, in percent."""
    picks = np.random.default_rng(seed).integers(len(words), size=(DRAWS, len(words)))
    return 100 * np.asarray(errors)[picks].sum(axis=1) / np.asarray(words)[picks].sum(axis=1)


def assert_quantile(value, draws, share):
    """That a value, from as many draws, is a quantile of these: its place among them is known no better than a count of
    heads, √(share · (1 − share) / DRAWS), and so is its own."""
    noise = NOISE * np.sqrt(2 * share * (1 - share) / DRAWS)
    assert np.mean(draws < value - 1e-9) <= share + noise
    assert np.mean(draws <= value + 1e-9) >= share - noise


@pytest.mark.parametrize("name", SETS)
def test_intervals_are_those_of_drawing_utterances(name):
    one = SETS[name]
    for errors in (one["first"], one["second"]):
        low, high = rate_interval(errors, one["words"])
        draws = by_the_book(errors, one["words"])
        assert_quantile(low, draws, 0.025)
        assert_quantile(high, draws, 0.975)
        assert low < 100 * sum(errors) / sum(one["words"]) < high


@pytest.mark.parametrize("name", SETS)
def test_differences_are_those_of_drawing_the_same_utterances_for_both(name):
    one = SETS[name]
    found = paired_difference(one["words"], one["first"], one["second"])
    draws = by_the_book(one["first"], one["words"]) - by_the_book(one["second"], one["words"])
    assert_quantile(found.interval.low, draws, 0.025)
    assert_quantile(found.interval.high, draws, 0.975)
    better = np.mean(draws < -1e-9) + np.mean(abs(draws) <= 1e-9) / 2
    noise = NOISE * np.sqrt(2 * max(better * (1 - better), 1e-4) / DRAWS)
    assert found.better == pytest.approx(better, abs=noise)
    assert found.points == pytest.approx(100 * (sum(one["first"]) - sum(one["second"])) / sum(one["words"]))
    assert found.clear is (name == "an4 halfway")
    swapped = paired_difference(one["words"], one["second"], one["first"])
    assert swapped.points == pytest.approx(-found.points)
    assert swapped.better == pytest.approx(1 - better, abs=noise)


@pytest.mark.parametrize("name", SETS)
def test_draws_spread_as_in_kaldi(name):
    """kaldialign does what Kaldi's compute-wer-bootci does: 1.96 standard deviations of its draws; and of two systems,
    how often the second has fewer errors."""
    one = SETS[name]
    texts = [(["a"] * count, ["b"] * count) for count in one["words"]]

    def recognised(errors):
        return [wrong[:n] + right[n:] + wrong[:1] * max(n - len(right), 0) for (right, wrong), n in zip(texts, errors)]

    hypotheses = [recognised(one[system]) for system in ("first", "second")]
    theirs = kaldialign.bootstrap_wer_ci([right for right, _ in texts], *hypotheses, replications=DRAWS)
    for system, errors in (("system1", one["first"]), ("system2", one["second"])):
        rates = resampled_rates(errors, one["words"])
        spread, noise = rates.std() / 100, NOISE / np.sqrt(DRAWS)  # of two standard deviations: √2 · 1/√(2 DRAWS)
        assert theirs[system]["ci95"] == pytest.approx(1.96 * spread, rel=noise)
        assert theirs[system]["wer"] == pytest.approx(rates.mean() / 100, abs=spread * noise * np.sqrt(2))
    fewer = np.mean(resampled_rates(np.subtract(one["second"], one["first"]), one["words"]) < 0)
    assert theirs["p_s2_improv_over_s1"] == pytest.approx(fewer, abs=NOISE * np.sqrt(0.5 / DRAWS))


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    """Of 200 sets of 100 utterances, some of them hard. One for independent words holds less."""
    monkeypatch.setattr(bootstrap, "REPLICATIONS", 500)
    rng = np.random.default_rng(0)
    held = {"utterances": 0, "words": 0}
    for _ in range(200):
        words = rng.integers(4, 7, 100)
        errors = rng.binomial(words, rng.beta(0.2, 1.8, 100))  # 10 % on average
        low, high = rate_interval(errors, words)
        held["utterances"] += low <= 10 <= high
        rate = errors.sum() / words.sum()
        held["words"] += abs(rate - 0.1) <= 1.96 * np.sqrt(rate * (1 - rate) / words.sum())
    noise = NOISE * np.sqrt(200 * 0.95 * 0.05)
    assert abs(held["utterances"] - 190) <= noise
    assert held["words"] < 190 - noise


def test_the_order_of_utterances_and_the_time_of_day_do_not_matter():
    one = SETS["an4"]
    backwards = rate_interval(one["first"][::-1], one["words"][::-1])
    assert rate_interval(one["first"], one["words"]) == backwards == rate_interval(one["first"], one["words"])


@pytest.mark.parametrize(
    ("errors", "words"),
    [([], []), ([1, 0, 0], [3, 4, 5]), ([0] * 20, [3] * 20), ([1, 2] * 10, [3, 6] * 10), ([0, 1] * 10, [0] * 20)],
    ids=["none", "few", "no errors", "one rate", "no words"],
)
def test_what_drawing_tells_nothing_of_has_no_interval(errors, words):
    assert rate_interval(errors, words) is None


def test_draws_without_words_do_not_count():
    """Of two utterances one has none: both draws of it have no rate, and of the others the rate is 1/2 or 1."""
    draws = resampled_rates([1, 1], [2, 0])
    assert set(draws) == {50, 100}
    assert len(draws) == pytest.approx(0.75 * DRAWS, abs=NOISE * np.sqrt(DRAWS * 3 / 16))


@pytest.mark.parametrize("times", [1, 4])
def test_the_same_errors_are_no_difference(times):
    same = paired_difference([5, 5, 5] * times, [0, 1, 2] * times, [0, 1, 2] * times)
    assert (same.points, same.interval, same.better, same.clear) == (0, None, 0.5, False)


def test_of_few_utterances_no_difference_is_clear():
    few, many = (paired_difference([5] * count, [5] * count, [0] * (count - 1) + [1]) for count in (3, 30))
    assert (few.clear, few.interval, many.clear) == (False, None, True)


def test_intervals_have_the_digits_that_they_can_tell():
    assert str(Interval(4.56, 8.74)) == "4.6-8.7"
    assert str(Interval(2.012, 2.198)) == "2.01-2.20"
    assert Interval(-0.53, 1.06).digits("+") == ("-0.5", "+1.1")
