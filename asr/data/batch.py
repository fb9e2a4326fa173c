"""What flows from the data to a model."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lhotse.supervision import AlignmentItem


@dataclass(frozen=True)
class SamplerState:
    """What the sampler was about to go on with at a place of an epoch, so that nothing before it need be read again.

    batch: batches of the epoch that were done. read: rows of the manifests that had been read. rows: of these, the ones
    whose utterances waited in the buckets, in order. bins: limits of the buckets, seconds. generators: of the order
    within a bucket, and of the choice of one, as `random.Random` tells its state.
    """

    batch: int
    read: int
    rows: Sequence[int]
    bins: list[float]
    generators: Sequence[tuple[Any, ...]]

    def as_json(self) -> dict[str, Any]:
        """Values that JSON can hold, some 70 kB for 20,000 rows: their distances, and the words of the generators."""
        distances = " ".join(map(str, np.diff(self.rows, prepend=0)))
        words = [np.array(state[1], "<u4").tobytes().hex() for state in self.generators]
        return {"batch": self.batch, "read": self.read, "rows": distances, "bins": self.bins, "generators": words}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SamplerState:
        """The inverse of `as_json`. Raises ValueError, TypeError or KeyError for anything else."""
        words = [np.frombuffer(bytes.fromhex(one), "<u4").tolist() for one in value["generators"]]
        generators = [(random.Random.VERSION, tuple(one), None) for one in words]
        for state in generators:
            random.Random().setstate(state)
        rows = array("q", np.cumsum([int(one) for one in value["rows"].split()], dtype=np.int64))
        batch, read, bins = int(value["batch"]), int(value["read"]), [float(one) for one in value["bins"]]
        if len(generators) != 2 or bins != sorted(bins) or np.diff([-1, *rows, read]).min() < 1:
            raise ValueError("no state of a sampler")
        return cls(batch, read, rows, bins, generators)


@dataclass(frozen=True)
class Position:
    """A place in the stream of training batches: `batch` batches of epoch `epoch` are done.

    sampler: its state then, or some batches before; without it those of the epoch are drawn again to get there.
    """

    epoch: int = 0
    batch: int = 0
    sampler: SamplerState | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Skipped:
    """An utterance that was left out, and why."""

    id: str
    reason: str


@dataclass
class Batch:
    """Utterances padded to common lengths.

    views: how often each utterance is in the batch, differently augmented: the second view of row b is row b + B/2.
    ids, texts: B utterance ids and transcripts.
    features: (B,T,F) log-mel filterbank, 10 ms a frame, padded with zeros.
    feature_frames: (B,), valid frames.
    labels: (B,U) token ids, padded with 0; label_lengths: (B,). All lengths are 0 without a tokenizer.
    words: for each utterance the times of its words, seconds from its start; none where they are unknown.
    alignment: (B,U), frame after subsampling of each label, negative where unknown; None for an empty batch.
    frame_labels: (B,T'), the label said in each frame after subsampling, 0 between words, negative where unknown;
        None unless a loss wants it.
    seconds: of audio, without padding; of each utterance once.
    position: where the stream stands once this batch is done; None outside training.
    skipped: utterances of this batch that could not be read; in training also those that were refused on the way to it.
    """

    ids: list[str]
    texts: list[str]
    features: Tensor
    feature_frames: Tensor
    labels: Tensor
    label_lengths: Tensor
    seconds: float
    alignment: Tensor | None = None
    frame_labels: Tensor | None = None
    words: list[list[AlignmentItem]] = field(default_factory=list)
    position: Position | None = None
    views: int = 1
    skipped: list[Skipped] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int]) -> Batch:
        """These rows, each by itself, padded as they are here; `seconds` and `skipped` stay the batch's."""
        ids, texts = [self.ids[row] for row in rows], [self.texts[row] for row in rows]
        words = [self.words[row] for row in rows] if self.words else []
        tensors: dict[str, Any] = {
            name: value[list(rows)] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, ids=ids, texts=texts, words=words, views=1, **tensors)

    def to(self, device: torch.device) -> Batch:
        """The same batch with features and frame labels on `device`.

        Labels and lengths stay where they can be looked at without waiting for a GPU; who computes with them moves
        them.
        """
        frame_labels = None if self.frame_labels is None else self.frame_labels.to(device, non_blocking=True)
        return replace(self, features=self.features.to(device, non_blocking=True), frame_labels=frame_labels)
