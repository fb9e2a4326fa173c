"""A training that is killed ends as if it had not been: a short form of scripts/torture/kill.py."""

import random

from conftest import torture

kill = torture("kill")


def test_a_killed_training_is_bit_identical(tiny_corpus, tmp_path, monkeypatch):
    """Whether data are loaded by the training itself, or by workers."""
    monkeypatch.setattr(kill, "STEPS", 30)
    options = [*torture("trainings").options(tiny_corpus.directory), "data.spec_augment.time_masks=1"]
    whole, run = tmp_path / "whole", tmp_path / "disturbed"
    kill.finish(whole, options, 1)
    moments = ["validating", "saving", "at random"]
    told = list(kill.disturbed(run, options, 1, moments, random.Random(0)))
    assert [line.split(", ")[1] for line in told] == moments
    assert kill.differs(run, whole) == ""
