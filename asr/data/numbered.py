"""Cuts by their place in the manifests, so that reading them may go on anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lhotse import CutSet
from lhotse.cut import Cut


@dataclass(frozen=True)
class Rows:
    """Rows of manifests, counted from 0 over all of them: those that are `kept`, and all from `start` on."""

    kept: frozenset[int] = frozenset()
    start: int = 0

    def __contains__(self, row: int) -> bool:
        return row >= self.start or row in self.kept


EVERY = Rows()


@runtime_checkable
class Numbered(Protocol):
    """What has cuts by their rows, and passes over a row without making a cut of it."""

    def numbered(self, wanted: Rows) -> Iterator[tuple[int, Cut]]:
        """The wanted rows, in order, and the cuts in them."""


def numbered(cuts: CutSet, wanted: Rows = EVERY) -> Iterator[tuple[int, Cut]]:
    """The wanted rows of any cuts, in order, and the cuts in them; of other than `Numbered` ones every cut is made."""
    if isinstance(cuts.data, Numbered):
        return cuts.data.numbered(wanted)
    return ((row, cut) for row, cut in enumerate(cuts) if row in wanted)
