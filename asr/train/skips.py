"""Utterances that are left out: named where they are met, and counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from asr.data.batch import Skipped

NAMED = 20  # utterances that are named; beyond them there is a count, and another each time that it has doubled

AT_SPEED = re.compile(r"_sp[\d.]+$")  # what Lhotse adds to the id of a cut at another speed


class SkipLog:
    """Warns of utterances, of each once, whatever its speeds. what: what befell them, as in "skipped"."""

    def __init__(self, logger: logging.Logger, what: str = "skipped") -> None:
        self.logger, self.what = logger, what
        self.seen: set[str] = set()
        self.next_count = NAMED + 1

    def add(self, skipped: Iterable[Skipped]) -> None:
        """Name those that are new while few have been, and count."""
        for one in skipped:
            name = AT_SPEED.sub("", one.id)
            if name not in self.seen and len(self.seen) < NAMED:
                self.logger.warning("%s %s: %s", self.what, one.id, one.reason)
            self.seen.add(name)
        if len(self.seen) >= self.next_count:
            self.next_count = 2 * len(self.seen)
            self.logger.warning("%s %d utterances so far, of which %d are named", self.what, len(self.seen), NAMED)

    def total(self) -> None:
        """Say how many there were, if any."""
        if self.seen:
            self.logger.warning("%s %d utterances", self.what, len(self.seen))
