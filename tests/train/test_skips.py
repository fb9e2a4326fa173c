"""Utterances that are left out are named once, the first of them, and all counted."""

import logging

from asr.data.batch import Skipped
from asr.train.skips import NAMED, SkipLog


def said(caplog, rounds):
    logger = logging.getLogger("test_skips")
    with caplog.at_level(logging.WARNING, "test_skips"):
        skips = SkipLog(logger, "left out")
        for names in rounds:
            skips.add(Skipped(name, "no audio") for name in names)
        skips.total()
    return [record.getMessage() for record in caplog.records]


def test_an_utterance_is_named_once(caplog):
    assert said(caplog, [["a_sp0.9"], ["b", "a"], ["a", "a_sp1.1"]]) == [
        "left out a_sp0.9: no audio",
        "left out b: no audio",
        "left out 2 utterances",
    ]


def test_of_many_the_first_are_named_and_the_others_counted(caplog):
    lines = said(caplog, [[f"{number}" for number in range(end)] for end in (1, NAMED, 30, 50, 70, 70)])
    assert lines[:NAMED] == [f"left out {number}: no audio" for number in range(NAMED)]
    assert lines[NAMED:] == [
        f"left out 30 utterances so far, of which {NAMED} are named",
        f"left out 70 utterances so far, of which {NAMED} are named",
        "left out 70 utterances",
    ]


def test_nothing_is_said_of_nothing(caplog):
    assert said(caplog, [[]]) == []
