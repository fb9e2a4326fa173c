"""How frames lie in time: those of the features, and the fewer ones of an encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

FRAME_SECONDS = 0.01  # from one feature frame to the next
WINDOW_SECONDS = 0.025  # of samples that a feature frame is computed from, around the middle of its own
UNALIGNED = -1  # the frame of a label whose time is unknown; the label of a frame of which nothing is, or of padding

Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True)
class FrameTiming:
    """How an encoder's frames, those after subsampling, lie in time: every encoder has one.

    factor: feature frames from one frame to the next. window: feature frames that one depends on.

    Frame t reads the `window` feature frames from `factor` × t on. Its middle is that of these, and a time belongs to
    the frame whose middle is nearest.
    """

    factor: int
    window: int

    @property
    def shift(self) -> float:
        """Seconds from one frame to the next."""
        return self.factor * FRAME_SECONDS

    @property
    def overlap(self) -> int:
        """Feature frames that a chunk has in common with the next."""
        return self.window - self.factor

    def length(self, feature_frames: Count) -> Count:
        """Frames that so many feature frames give; fewer than 1 where they are too few for one."""
        return (feature_frames - self.overlap) // self.factor

    def needed(self, frames: Count) -> Count:
        """Fewest feature frames that give so many frames."""
        return frames * self.factor + self.overlap

    def begin(self, frame: int) -> float:
        """The first time, seconds, that belongs to a frame."""
        return (self.factor * frame + self.overlap / 2) * FRAME_SECONDS

    def middle(self, frame: int) -> float:
        """The middle of a frame, seconds."""
        return (self.factor * frame + self.window / 2) * FRAME_SECONDS

    def at(self, seconds: float) -> int:
        """The frame that a time belongs to."""
        return math.floor((seconds / FRAME_SECONDS - self.overlap / 2) / self.factor)

    def heard(self, frame: int) -> float:
        """When all samples that a frame depends on have been heard, seconds."""
        return self.middle(frame) + ((self.window - 1) * FRAME_SECONDS + WINDOW_SECONDS) / 2
