"""Decodes CutSets with a trained model."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from torch import Tensor

from asr.config import DataOptions, DecodeOptions
from asr.data.audio import loudness_of_features
from asr.data.batch import Batch, Skipped
from asr.data.dataset import Draw, SpeechDataset, transcript
from asr.data.features import load_features
from asr.data.pauses import cut_at_pauses
from asr.data.sampler import OnePass
from asr.data.scripts import joined
from asr.decode.make import make_search
from asr.decode.search import Hypothesis, recognised, require_score
from asr.decode.stream import chunk_frames, encode_in_chunks
from asr.device import enough_memory, wait_for
from asr.errors import InputError
from asr.runs.trained import Trained
from asr.score.wer import Utterance

Decoded = list[Utterance] | Skipped  # the hypotheses of an utterance, best first, or why there are none

BUCKETS = 3  # of similar durations: few, so that the batches of a small test set are not small


@dataclass
class Clock:
    """Seconds spent on reading and features, in the encoder and in the search; and seconds of audio.

    frames: of the encoder's output; joined: those that the search looked at (`Session.joined`).
    """

    features: float = 0.0
    encoder: float = 0.0
    search: float = 0.0
    audio: float = 0.0
    frames: int = 0
    joined: int = 0

    def line(self) -> str:
        """All of it in one line."""
        total = self.features + self.encoder + self.search
        skipped = f"; {self.joined / self.frames:.2f} frames joined per frame" if self.joined < self.frames else ""
        return (
            f"time: features {self.features:.2f} s, encoder {self.encoder:.2f} s, search {self.search:.2f} s "
            f"({100 * self.search / total:.1f} %); {self.audio / total:.0f} times faster than real time{skipped}"
        )


class Decoder:
    """Decodes CutSets with a trained model.

    phrases: to expect, beside those of the options' file. timing: of the encoder's frames. chunk: so many of them are
    the chunks that it works in; 0: none. clock: where time went.
    """

    def __init__(
        self,
        trained: Trained,
        options: DecodeOptions,
        device: torch.device,
        streaming: bool = False,
        phrases: Sequence[str] = (),
    ) -> None:
        model = trained.config.model
        self.trained, self.options, self.device, self.streaming = trained, options, device, streaming
        self.timing = trained.model.timing
        self.chunk = chunk_frames(model.chunk_frames, options.chunk_seconds, streaming, self.timing)
        self.search = make_search(options, trained.model, trained.config.loss, trained.tokenizer, phrases)
        self.dataset = SpeechDataset(model.mel_bins, self.timing)
        self.clock = Clock()

    def __call__(self, cuts: CutSet) -> Iterator[Decoded]:
        """The hypotheses of each utterance, best first, or why there are none, in the order of decoding."""
        for results in self.by_batch(cuts):
            yield from results

    def by_batch(self, cuts: CutSet, done: Container[str] = ()) -> Iterator[list[Decoded]]:
        """The same, batch by batch.

        done: utterances that need not be decoded again. A batch of which some are not is decoded as a whole, so that
        what comes of an utterance is the same to the last bit, whether or not the work was interrupted.
        """
        for draw in self.draws(cuts):
            if not all(cut.id in done for cut in draw.cuts):
                yield self.decode_draw(draw)

    def draws(self, cuts: CutSet) -> Iterator[Draw]:
        """Batches of similar durations; then what is too long for a batch, each by itself."""
        if len(begin := list(islice(cuts, 2))) == 1:  # which need not be put in order
            yield Draw(begin)
            return
        short = cuts.filter(self.in_one_piece)
        longest, most = self.options.max_seconds, self.options.batch_size
        if next(iter(short), None) is not None:
            yield from OnePass(short, DataOptions(max_seconds=longest, max_utterances=most, buckets=BUCKETS))
        for cut in cuts:
            if self.too_long(cut):
                yield Draw([cut])

    def batches(self, cuts: CutSet) -> Iterator[Batch]:
        """The batches that are decoded."""
        return map(self.dataset.__getitem__, self.draws(cuts))

    def too_long(self, cut: Cut) -> bool:
        """Whether an utterance is decoded in pieces: a stream may be as long as it likes."""
        return cut.duration > self.options.max_seconds and not self.streaming

    def in_one_piece(self, cut: Cut) -> bool:
        """The opposite of `too_long`."""
        return not self.too_long(cut)

    def decode_draw(self, draw: Draw) -> list[Decoded]:
        """What came of a batch; of each utterance alone, where memory is too little for all at once."""
        if self.too_long(draw.cuts[0]):
            return [self.decode_long(draw.cuts[0])]
        started = time.perf_counter()
        batch = self.dataset[draw]
        self.clock.features += time.perf_counter() - started
        found: list[Decoded] = [*batch.skipped]
        if not len(batch):
            return found
        try:
            with enough_memory("", batch.seconds):
                return found + self.decode(batch.to(self.device))
        except InputError as error:
            if len(batch) == 1:
                return [*found, Skipped(batch.ids[0], str(error))]
        read = [cut for cut in draw.cuts if cut.id in batch.ids]
        return found + [one for cut in read for one in self.decode_draw(Draw([cut]))]

    def decode_long(self, cut: Cut) -> Decoded:
        """The best hypothesis of an utterance that is cut at its pauses."""
        started = time.perf_counter()
        try:
            loudness_N = loudness_of_features(load_features(cut, self.dataset.fbank).numpy())
        except InputError as error:
            return Skipped(cut.id, str(error))
        self.clock.features += time.perf_counter() - started
        lengths = self.trained.lengths.within(self.options.max_seconds)
        pieces = cut_at_pauses(cut.drop_supervisions(), loudness_N, lengths)
        results = {id_of(result): result for result in self(CutSet.from_cuts(piece for _, piece in pieces))}
        found = []
        for begin, piece in pieces:
            result = results[piece.id]
            if isinstance(result, Skipped):
                return Skipped(cut.id, f"from {begin:.1f} s on: {result.reason}")
            found.append((result[0], begin))
        return [in_one(cut.id, transcript(cut), found)]

    @torch.inference_mode()
    def decode(self, batch: Batch) -> list[Decoded]:
        """The hypotheses of each utterance of a batch, best first, or why there are none."""
        started, encoder = time.perf_counter(), 0.0
        session = self.search.begin(len(batch))
        since = time.perf_counter()
        for encoded in self.encode(batch):
            wait_for(self.device)  # or the search would be charged for the encoder
            encoder += time.perf_counter() - since
            session.read(*encoded)
            self.clock.frames += int(encoded[1].sum())
            since = time.perf_counter()
        best = session.best()
        found = [
            scored(utterances, hypotheses)
            for utterances, hypotheses in zip(recognised(batch, best, self.trained.tokenizer, self.timing), best)
        ]
        self.clock.encoder += encoder
        self.clock.search += time.perf_counter() - started - encoder
        self.clock.audio += batch.seconds
        self.clock.joined += session.joined()
        return found

    def encode(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Encoder output (B,T,J), float32, and its frames (B,): of the whole, or chunk by chunk."""
        model, lengths_B = self.trained.model, batch.feature_frames.to(self.device)
        if self.streaming:
            yield from encode_in_chunks(model, batch.features, lengths_B, self.chunk)
            return
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            encoded, frames_B = model.encode(batch.features, lengths_B, self.chunk)
        yield encoded.float(), frames_B


def id_of(decoded: Decoded) -> str:
    """The utterance that this came of."""
    return decoded.id if isinstance(decoded, Skipped) else decoded[0].id


def in_one(id_: str, reference: str, parts: Sequence[tuple[Utterance, float]]) -> Utterance:
    """Pieces of an utterance, each with the time at which it begins, as one."""
    times = [round(time + begin, 3) for part, begin in parts for time in part.times]
    return Utterance(
        id_,
        reference,
        joined([part.hypothesis for part, _ in parts if part.hypothesis]),
        tuple(token for part, _ in parts for token in part.tokens),
        tuple(times),
        tuple(confidence for part, _ in parts for confidence in part.confidences),
        round(sum(part.score or 0.0 for part, _ in parts), 4),
    )


def scored(utterances: list[Utterance], hypotheses: Sequence[Hypothesis]) -> list[Utterance] | Skipped:
    """The utterance's hypotheses in words, unless their scores are no numbers."""
    try:
        require_score(hypotheses)
    except InputError as error:
        return Skipped(utterances[0].id, str(error))
    return utterances
