"""Reading utterances as they come: the encoder, and then the search, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from asr.errors import InputError
from asr.frames import FrameTiming
from asr.models.transducer import Transducer


def chunk_frames(trained: Sequence[int], seconds: float | None, streaming: bool, timing: FrameTiming) -> int:
    """Frames, after subsampling, of the chunks to decode in; 0: none.

    trained: as `model.chunk_frames`. seconds: as `decode.chunk_seconds`.

    Raises InputError where the model was not trained for chunks, or streaming has none.
    """
    if seconds is None:
        frames = trained[0] if trained else 0
    else:
        frames = round(seconds / timing.shift)
        if seconds and not frames:
            raise InputError(f"decode.chunk_seconds={seconds}: a chunk is at least {timing.shift} s, one frame")
    if not trained and (frames or streaming):
        what = "streaming" if streaming else f"decode.chunk_seconds={seconds}"
        raise InputError(
            f"{what}: the model was trained on whole utterances; "
            "train with model.causal=true model.chunk_frames=[8,4,16]"
        )
    if streaming and not frames:
        raise InputError("streaming needs chunks: give decode.chunk_seconds=0.32, for example")
    return frames


def feature_windows(
    features_BTF: Tensor, lengths_B: Tensor, chunk: int, timing: FrameTiming
) -> Iterator[tuple[Tensor, Tensor]]:
    """What `Transducer.encode_chunk` reads one after the other: windows of the features and their frames (B,)."""
    step = timing.factor * chunk
    for begin in range(0, timing.factor * timing.length(features_BTF.shape[1]), step):
        window = features_BTF[:, begin : begin + timing.needed(chunk)]
        yield window, (lengths_B - begin).clamp(0, window.shape[1])


def encode_in_chunks(
    model: Transducer, features_BTF: Tensor, lengths_B: Tensor, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Encoder output (B,T',J) of each chunk, and how many of its frames are each utterance's (B,)."""
    state = None
    for window, frames in feature_windows(features_BTF, lengths_B, chunk, model.timing):
        encoded, frames_B, state = model.encode_chunk(window, frames, state)
        yield encoded, frames_B


class FeatureChunks:
    """Cuts a stream of feature frames into the windows that `Transducer.encode_chunk` reads."""

    def __init__(self, chunk: int, mel_bins: int, timing: FrameTiming) -> None:
        self.timing, self.step, self.size = timing, timing.factor * chunk, timing.needed(chunk)
        self.waiting_TF = torch.zeros(0, mel_bins)

    def add(self, features_TF: Tensor) -> Iterator[Tensor]:
        """Windows (1,T,F) that are complete with these frames."""
        self.waiting_TF = torch.cat((self.waiting_TF, features_TF))
        while len(self.waiting_TF) >= self.size:
            yield self.waiting_TF[None, : self.size]
            self.waiting_TF = self.waiting_TF[self.step :]

    def end(self) -> Iterator[Tensor]:
        """The last window, shorter than the others, if there is more in it than has been in the one before."""
        if self.timing.length(len(self.waiting_TF)) > 0:
            yield self.waiting_TF[None]
