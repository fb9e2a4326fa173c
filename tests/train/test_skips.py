"""Utterances that are left out are named once, the first of them, and all counted."""

import logging

from asr.data.batch import Skipped
from asr.train.skips import NAMED, SkipLog


def said(caplog, rounds):
    """What is said of rounds of reasons by utterance."""
    logger = logging.getLogger("test_skips")
    with caplog.at_level(logging.WARNING, "test_skips"):
        skips = SkipLog(logger, "left out")
        for reasons in rounds:
            skips.add(Skipped(name, reason) for name, reason in reasons.items())
        skips.total()
    return [record.getMessage() for record in caplog.records]


def test_an_utterance_is_named_once_and_a_reason_at_a_time(caplog):
    rounds = [{"a_sp0.9": "no audio"}, {"b": "no audio", "a": "no audio"}, {"a_sp1.1": "no audio", "c": "x", "d": "x"}]
    assert said(caplog, rounds) == [
        "left out a_sp0.9: no audio",
        "left out b: no audio",
        "left out c and 1 more: x",
        "left out 4 utterances",
    ]


def test_of_many_the_first_are_named_and_the_others_counted(caplog):
    lines = said(caplog, [{f"{n}": f"reason {n}" for n in range(end)} for end in (1, NAMED, 30, 50, 70, 70)])
    assert lines[:NAMED] == [f"left out {n}: reason {n}" for n in range(NAMED)]
    assert lines[NAMED:] == [
        "left out 30 utterances so far, of which the first are named",
        "left out 70 utterances so far, of which the first are named",
        "left out 70 utterances",
    ]


def test_nothing_is_said_of_nothing(caplog):
    assert said(caplog, [{}]) == []
