"""Real trainings that are ended from outside: a short form of scripts/check_endings.py."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_endings.py"


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
    options = [
        "model=debug",
        "data=debug",
        "data.max_seconds=4",
        f"data.train_cuts=[{tiny_corpus.train}]",
        f"data.valid_cuts=[{tiny_corpus.dev}]",
        f"data.tokenizer={tiny_corpus.tokenizer}",
        "train.device=cpu",
    ]
    chosen = ["--ways", way, f"--workers={workers}", f"--processes={processes}"]
    command = [sys.executable, str(SCRIPT), str(tmp_path), *chosen, "--", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"{way}: 1/1", done.stdout
    assert done.returncode == 0
