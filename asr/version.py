"""Which version of this program runs, for what it leaves behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asr

SECONDS = 10.0  # that git may take


def version() -> str:
    """The version, and the commit where the program runs from its repository: "0.1.0, commit 1a2b3c4d5e6f"."""
    root = Path(asr.__file__).resolve().parents[1]
    if not (root / ".git").exists():  # any other repository is not of this program
        return asr.__version__
    words = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=, with changes"]
    try:
        told = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return asr.__version__
    return f"{asr.__version__}, commit {told.strip()}"
