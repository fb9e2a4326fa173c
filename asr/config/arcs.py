"""The arcs of a lattice: which leave a node, and what they weigh."""

from __future__ import annotations

from dataclasses import dataclass

from asr.options import MISSING, option


@dataclass
class ArcOptions:
    """What every set of arcs has in common; one subclass per file in `conf/loss/arcs/`."""

    name: str = MISSING

    @property
    def extra_outputs(self) -> int:
        """Outputs that the joiner has beyond the vocabulary."""
        return len(self.extra_meanings)

    @property
    def extra_meanings(self) -> list[str]:
        """What each of them stands for."""
        return []

    @property
    def blank_meaning(self) -> str:
        """What output 0 of the joiner stands for."""
        return "blank, of a softmax"

    @property
    def labels_take_frames(self) -> str:
        """See `LossOptions`."""
        return ""


@dataclass
class StandardArcOptions(ArcOptions):
    """RNN-T: blank and the next label."""

    name: str = option("standard", "which arcs leave a node", choices=("standard",))


@dataclass
class HatArcOptions(ArcOptions):
    """HAT: whether blank or not comes first, and then which label."""

    name: str = option("hat", "which arcs leave a node", choices=("hat",))

    @property
    def blank_meaning(self) -> str:
        """See `ArcOptions`."""
        return "blank or not"


@dataclass
class MultiBlankArcOptions(ArcOptions):
    """Multi-blank: blanks that skip frames, too."""

    name: str = option("multi_blank", "which arcs leave a node", choices=("multi_blank",))
    big_blanks: list[int] = option([2, 4, 8], "frames that each big blank advances", low=2)
    sigma: float = option(0.0, "nats taken off every arc in training, in favour of paths that skip frames", low=0)

    @property
    def extra_meanings(self) -> list[str]:
        """See `ArcOptions`."""
        return [f"blank of {frames} frames" for frames in self.big_blanks]


@dataclass
class TdtArcOptions(ArcOptions):
    """Token-and-duration: blank and labels say how many frames they advance."""

    name: str = option("tdt", "which arcs leave a node", choices=("tdt",))
    durations: list[int] = option([0, 1, 2, 3, 4], "frames that a token may advance; blank never 0", low=0)
    sigma: float = option(0.05, "nats taken off every arc in training, in favour of paths that skip frames", low=0)
    omega: float = option(0.0, "share of training batches with the plain RNN-T loss", low=0, high=1)

    @property
    def extra_meanings(self) -> list[str]:
        """See `ArcOptions`."""
        return [f"duration {frames}" for frames in self.durations]

    @property
    def labels_take_frames(self) -> str:
        """See `LossOptions`."""
        return "" if 0 in self.durations else f"arcs.durations={self.durations}"


ARCS: dict[str, type[ArcOptions]] = {
    "standard": StandardArcOptions,
    "hat": HatArcOptions,
    "multi_blank": MultiBlankArcOptions,
    "tdt": TdtArcOptions,
}
