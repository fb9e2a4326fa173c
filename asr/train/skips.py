"""Utterances that are left out: named where they are met, and counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping

from asr.data.batch import Skipped

NAMED = 20  # lines that name utterances; beyond them there is a count, and another each time that it has doubled
AT_SPEED = re.compile(r"_sp[\d.]+$")  # what Lhotse adds to the id of a cut at another speed


class SkipLog:
    """Warns of utterances, of each once, whatever its speeds. what: what befell them, as in "skipped"."""

    def __init__(self, logger: logging.Logger, what: str = "skipped") -> None:
        self.logger, self.what = logger, what
        self.seen: set[str] = set()
        self.lines, self.next_count = 0, 0

    def add(self, skipped: Iterable[Skipped]) -> None:
        """Name those that are new, a reason once, while few lines have been written; then count."""
        lines = list(grouped(self.new(skipped)))
        for line in lines[: max(NAMED - self.lines, 0)]:
            self.logger.warning("%s %s", self.what, line)
        self.lines += len(lines)
        if lines and self.lines > NAMED and len(self.seen) >= self.next_count:
            self.next_count = 2 * len(self.seen)
            self.logger.warning("%s %d utterances so far, of which the first are named", self.what, len(self.seen))

    def new(self, skipped: Iterable[Skipped]) -> dict[str, str]:
        """The reasons of those that have not been seen, by id."""
        found: dict[str, str] = {}
        for one in skipped:
            name = AT_SPEED.sub("", one.id)
            if name not in self.seen:
                found[one.id] = one.reason
            self.seen.add(name)
        return found

    def total(self) -> None:
        """Say how many there were, if any."""
        if self.seen:
            self.logger.warning("%s %d utterances", self.what, len(self.seen))


def grouped(reasons: Mapping[str, str]) -> Iterator[str]:
    """Reasons by utterance as `u7 and 35 more: REASON`, a reason once."""
    by_reason: dict[str, list[str]] = {}
    for utterance, reason in reasons.items():
        by_reason.setdefault(reason, []).append(utterance)
    for reason, (first, *others) in by_reason.items():
        yield f"{first}{f' and {len(others)} more' if others else ''}: {reason}"
