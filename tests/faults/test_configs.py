"""Options that are wrong, and options that are right: the short form of scripts/torture/configs.py."""

import random

import pytest
from conftest import torture

configs = torture("configs")


@pytest.mark.parametrize(("draw", "count"), [("refused_words", 12), ("refused_text", 4), ("taken", 5)])
def test_what_is_wrong_is_refused_in_one_line_that_helps_and_what_is_right_is_taken(draw, count):
    rng = random.Random(draw)
    drawn = [getattr(configs, draw)(rng) for _ in range(count)]
    assert [fault for fault in drawn if fault[1] and "took" not in fault[1]] == []
