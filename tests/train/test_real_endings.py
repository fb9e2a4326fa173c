"""Real trainings that are ended from outside: a short form of scripts/torture/endings.py."""

import pytest
from conftest import torture


@pytest.mark.parametrize(
    ("way", "workers", "processes"),
    [
        ("reader gone, then Ctrl-C", 2, 1),
        ("terminal closed", 0, 1),
        ("worker killed", 2, 1),
        ("rank 1 killed", 1, 2),
        ("asr.data.dataset SpeechDataset.collate", 1, 1),
    ],
)
def test_nobody_is_left_a_line_says_why_and_a_checkpoint_exists(tiny_corpus, tmp_path, way, workers, processes):
    options = torture("trainings").options(tiny_corpus.directory)
    assert torture("endings").ended(way, tmp_path / "ended", options, workers, processes) == ""
