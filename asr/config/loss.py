"""The losses: what they have in common, and what each has of its own."""

from __future__ import annotations

import functools
import importlib.metadata
from dataclasses import dataclass, field
from typing import Optional

from asr.config.arcs import ArcOptions, StandardArcOptions
from asr.errors import InputError
from asr.options import MISSING, option

LATTICE_BACKENDS = ("reference", "numba", "triton", "k2")


@dataclass
class LossOptions:
    """What every transducer loss has in common; one subclass per file in `conf/loss/`."""

    name: str = MISSING
    arcs: ArcOptions = field(default_factory=StandardArcOptions)
    topology: str = option(
        "regular",
        "labels that a frame may emit: any number; at most one; or at most one, followed by a forced blank",
        choices=("regular", "modified", "constrained"),
    )
    fastemit: float = option(0.0, "share that the gradient of label arcs is raised by (FastEmit)", low=0)
    delay_penalty: float = option(0.0, "nats per frame that a label's log-probability falls with time", low=0)

    edges: Optional[float] = option(
        None,
        "nats per frame for which a path may leave out frames before the first label and after the last; null: none",
        low=0,
    )
    consistency: float = option(
        0.0,
        "weight of the divergence between two views of each utterance, both in a batch (after CR-CTC); 0: one view",
        low=0,
    )

    @property
    def uses_alignment(self) -> bool:
        """Whether utterances are to have the times of their words."""
        return False

    @property
    def labels_take_frames(self) -> str:
        """The option by which every label takes a frame of its own; empty where a frame may emit any number."""
        return f"topology={self.topology}" if self.topology != "regular" else self.arcs.labels_take_frames


@dataclass
class FullLossOptions(LossOptions):
    """The readable reference: the whole padded (B,T,U+1,V) grid."""

    name: str = option("full", "which transducer loss", choices=("full",))


@dataclass
class PackedLossOptions(LossOptions):
    """What the losses on packed nodes have in common."""

    chunk_nodes: Optional[int] = option(
        None, "nodes whose logits are held at a time; 0: all; null: as many as suit V and the device", low=0
    )
    gradient_tolerance: float = option(
        0.0, "relative error that the gradients may have, for skipping nodes; 0: that of rounding", low=0, high=0.5
    )
    backend: str = option(
        "auto", "what sums over paths; auto: numba on a CPU, triton on a GPU", choices=("auto", *LATTICE_BACKENDS)
    )
    joint: str = option(
        "auto",
        "what evaluates the joiner: any by autograd (chunked), or the standard one by kernels; auto: kernels if they "
        "can, fused on a GPU, numba on a CPU in float32",
        choices=("auto", "chunked", "fused", "numba"),
    )


@dataclass
class OptimizedLossOptions(PackedLossOptions):
    """The loss of `full` from valid nodes alone and streamed logits."""

    name: str = option("optimized", "which transducer loss", choices=("optimized",))


@dataclass
class ArLossOptions(PackedLossOptions):
    """Alignment-restricted: every label near its aligned frame."""

    name: str = option("ar", "which transducer loss", choices=("ar",))
    left_frames: int = option(5, "frames (after subsampling) that a label may come before its aligned one", low=0)
    right_frames: int = option(10, "frames (after subsampling) that a label may come after its aligned one", low=0)

    @property
    def uses_alignment(self) -> bool:
        """See `LossOptions`."""
        return True


@dataclass
class PrunedLossOptions(PackedLossOptions):
    """A few label positions per frame, chosen by a simple joiner that is trained along, or around an alignment."""

    name: str = option("pruned", "which transducer loss", choices=("pruned",))
    bounds: str = option(
        "simple",
        "what chooses them: a simple joiner that is trained along, or the alignment",
        choices=("simple", "alignment"),
    )
    prune_range: int = option(5, "label positions kept per frame (S)", low=2, only_with="prune_mass=null")
    prune_mass: Optional[float] = option(
        None, "instead: as many as hold this share of the simple joiner's occupation", low=0.01, high=1
    )
    simple_scale: float = option(
        0.5, "weight of the simple joiner's loss, once warmed up", low=0, only_with="bounds=simple"
    )
    pruned_scale: float = option(1.0, "weight of the pruned loss, once warmed up", low=0, only_with="bounds=simple")
    warmup_batches: int = option(
        500,
        "training batches in which the weights go from 1 (simple) and 0.1 (pruned) to these",
        low=0,
        only_with="bounds=simple",
    )
    aligned_batches: int = option(
        0,
        "training batches, at first, whose label positions are those around the alignment, where it is known",
        low=0,
        only_with="bounds=simple",
    )
    lm_scale: float = option(
        0.25, "share of the simple loss that sees the predictor alone", low=0, high=1, only_with="bounds=simple"
    )
    am_scale: float = option(
        0.0, "share of the simple loss that sees the encoder and a unigram", low=0, high=1, only_with="bounds=simple"
    )

    @property
    def uses_alignment(self) -> bool:
        """See `LossOptions`."""
        return self.bounds == "alignment" or self.aligned_batches > 0


LOSSES: dict[str, type[LossOptions]] = {
    "full": FullLossOptions,
    "optimized": OptimizedLossOptions,
    "ar": ArLossOptions,
    "pruned": PrunedLossOptions,
}
ENTRY_POINTS = "asr.losses"  # by which an installed package names a module that calls `asr.losses.register`


@functools.cache
def load_installed() -> None:
    """Add the losses of installed packages to LOSSES. Raises InputError where one cannot be imported."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # whatever the module's own code raises
            what = f"{type(error).__name__}: {error}"
            raise InputError(f"entry point {ENTRY_POINTS}: {point.value} cannot be imported ({what})") from error
