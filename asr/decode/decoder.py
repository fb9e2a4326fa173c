"""Decodes CutSets with a trained model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from lhotse import CutSet
from torch import Tensor

from asr.config import DataOptions, DecodeOptions
from asr.data.batch import Batch, Skipped
from asr.data.dataset import SpeechDataset
from asr.data.sampler import OnePass, make_loader
from asr.decode.make import make_search
from asr.decode.search import recognised
from asr.decode.stream import chunk_frames, encode_in_chunks
from asr.models.subsampling import MIN_FRAMES
from asr.runs.trained import Trained
from asr.score.wer import Utterance

BUCKETS = 3  # of similar durations: few, so that the batches of a small test set are not small


@dataclass
class Clock:
    """Seconds spent on reading and features, in the encoder and in the search; and seconds of audio."""

    features: float = 0.0
    encoder: float = 0.0
    search: float = 0.0
    audio: float = 0.0

    def line(self) -> str:
        """All of it in one line."""
        total = self.features + self.encoder + self.search
        return (
            f"time: features {self.features:.2f} s, encoder {self.encoder:.2f} s, search {self.search:.2f} s "
            f"({100 * self.search / total:.1f} %); {self.audio / total:.0f} times faster than real time"
        )


class Decoder:
    """Decodes CutSets with a trained model.

    chunk: frames, after subsampling, of the chunks that the encoder works in; 0: none. clock: where time went.
    """

    def __init__(self, trained: Trained, options: DecodeOptions, device: torch.device, streaming: bool = False) -> None:
        model = trained.config.model
        self.trained, self.options, self.device, self.streaming = trained, options, device, streaming
        self.chunk = chunk_frames(model, options.chunk_seconds, streaming)
        self.search = make_search(options, trained.model, trained.config.loss, trained.tokenizer)
        self.dataset = SpeechDataset(model.mel_bins, MIN_FRAMES)
        self.clock = Clock()

    def __call__(self, cuts: CutSet) -> Iterator[list[Utterance] | Skipped]:
        """The hypotheses of each utterance, best first, or why it could not be read, in the order of decoding."""
        started = time.perf_counter()
        for batch in self.batches(cuts):
            self.clock.features += time.perf_counter() - started
            yield from batch.skipped
            if len(batch):
                yield from self.decode(batch.to(self.device))
            started = time.perf_counter()

    def batches(self, cuts: CutSet) -> Iterator[Batch]:
        """Batches of similar durations."""
        longest, most = self.options.max_seconds, self.options.batch_size
        data = DataOptions(max_seconds=longest, max_utterances=most, buckets=BUCKETS)
        return iter(make_loader(self.dataset, OnePass(cuts, data), workers=0))

    @torch.inference_mode()
    def decode(self, batch: Batch) -> list[list[Utterance]]:
        """The hypotheses of each utterance of a batch, best first."""
        started, encoder = time.perf_counter(), 0.0
        session = self.search.begin(len(batch))
        since = time.perf_counter()
        for encoded in self.encode(batch):
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # or the search would be charged for the encoder
            encoder += time.perf_counter() - since
            session.read(*encoded)
            since = time.perf_counter()
        found = list(recognised(batch, session.best(), self.trained.tokenizer))
        self.clock.encoder += encoder
        self.clock.search += time.perf_counter() - started - encoder
        self.clock.audio += batch.seconds
        return found

    def encode(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Encoder output (B,T,J) and its frames (B,): of the whole, or chunk by chunk."""
        model = self.trained.model
        if self.streaming:
            yield from encode_in_chunks(model, batch.features, batch.feature_frames, self.chunk)
        else:
            yield model.encode(batch.features, batch.feature_frames, self.chunk)
