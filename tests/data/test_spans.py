"""What two parts have of one file: found among many spans as among few."""

import random

import pytest

from asr.data import validation
from asr.data.validation import SLACK_SECONDS, Spans


def by_brute_force(spans, start, end):
    found = (name for begin, until, name in spans if min(end, until) - max(start, begin) > SLACK_SECONDS)
    return next(found, None)


@pytest.mark.parametrize("longest", [0.2, 3.0, 40.0])
def test_the_first_span_that_overlaps_is_found(longest):
    draw = random.Random(0)
    spans, index = [], Spans()
    for number in range(300):
        start, end = (begin := draw.uniform(0, 100)), begin + draw.uniform(0.05, longest)
        assert index.overlapping(start, end) == by_brute_force(spans, start, end)
        spans.append((start, end, f"u{number}"))
        index.add(*spans[-1])
    for _ in range(300):
        start = draw.uniform(-5, 105)
        end = start + draw.uniform(0, 5)
        assert index.overlapping(start, end) == by_brute_force(spans, start, end)


def test_of_many_spans_those_nearby_are_looked_at(monkeypatch):
    index, looked = Spans(), []
    for number in range(2000):
        index.add(2.0 * number, 2.0 * number + 1.5, f"u{number}")
    monkeypatch.setattr(validation, "max", lambda *values: looked.append(values) or max(*values), raising=False)
    assert index.overlapping(2001.0, 2003.0) == "u1000"
    assert len(looked) <= 3
