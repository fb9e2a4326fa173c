"""`asr decode`: decode a CutSet with a trained model, and score it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lhotse import CutSet
from torch import Tensor

from asr.align.make import Aligned, check_for_ctm, write_ctm
from asr.align.tokens import aligned_words
from asr.align.words import recognised_words
from asr.cli.load import Trained, load_trained
from asr.cli.score import report
from asr.cli.train import choose_device
from asr.config import BeamOptions, DataOptions, DecodeConfig, DecodeOptions
from asr.data.batch import Batch, Skipped
from asr.data.dataset import SpeechDataset
from asr.data.manifest import open_cuts, unique_ids
from asr.data.sampler import OnePass, make_loader
from asr.decode.make import make_search
from asr.decode.search import recognised
from asr.decode.stream import chunk_frames, encode_in_chunks
from asr.errors import InputError
from asr.models.subsampling import MIN_FRAMES
from asr.progress import progress
from asr.score.delay import first_word_latencies
from asr.score.report import write_nbest
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


def main(config: DecodeConfig) -> None:
    """Decode and score; the WER line is the last line printed. Raises InputError for input at fault."""
    check_nbest(config)
    cuts = open_cuts([config.cuts])
    device = choose_device(config.device)
    trained = load_trained(config.run, config.checkpoint, device)
    order = unique_ids(cuts)
    check_for_ctm(order)
    decoder = Decoder(trained, config.decode, device, config.streaming)
    decoded: dict[str, list[Utterance]] = {}
    for result in progress(decoder(cuts), len(order), "decoding", "utterances"):
        if isinstance(result, Skipped):
            print(f"skipped {result.id}: {result.reason}", file=sys.stderr)
        else:
            decoded[result[0].id] = result
    if not decoded:
        raise InputError(f"{config.cuts}: no utterance could be decoded, of {len(order)}")
    if len(decoded) < len(order):
        missing = len(order) - len(decoded)
        print(f"{missing} of {len(order)} utterances were skipped and are not scored", file=sys.stderr)
    print(decoder.clock.line())
    write_all(config, cuts, [decoded[i] for i in order if i in decoded], trained, decoder)


def check_nbest(config: DecodeConfig) -> None:
    """Raise InputError where the search does not have as many hypotheses as are asked for."""
    beam = config.decode.beam if isinstance(config.decode, BeamOptions) else 1
    if config.nbest > beam:
        needed = f"decode=beam decode.beam={config.nbest}"
        raise InputError(f"nbest={config.nbest}: the search follows {beam} hypotheses; use {needed}, or more")


def write_all(
    config: DecodeConfig, cuts: CutSet, found: list[list[Utterance]], trained: Trained, decoder: Decoder
) -> None:
    """Write hypotheses, times of words and reports, and print what they say."""
    output = Path(config.output)
    name = config.name or Path(config.cuts).name.split(".")[0].removeprefix("cuts_")
    words = {cut.id: aligned_words(cut) for cut in cuts}
    durations = {cut.id: cut.duration for cut in cuts}
    best = [hypotheses[0] for hypotheses in found]
    write_ctm(output / "hypotheses.ctm", (Aligned(u.id, recognised_words(u, durations[u.id])) for u in best))
    (output / "nbest.jsonl").unlink(missing_ok=True)
    if config.nbest > 1:
        write_nbest(output / "nbest.jsonl", (hypotheses[: config.nbest] for hypotheses in found))
    files = ["hypotheses.jsonl", "hypotheses.ctm", "recogs.txt", "errs.txt", "alignments.txt"]
    print(f"{output}: {', '.join(files + ['nbest.jsonl'] * (config.nbest > 1))} ({trained.checkpoint})")
    if config.streaming:
        print(first_word_latencies(best, words, durations, decoder.chunk))
    report(output, best, name, words)


class Decoder:
    """Decodes CutSets with a trained model.

    chunk: frames, after subsampling, of the chunks that the encoder works in; 0: none. clock: where time went.
    """

    def __init__(self, trained: Trained, options: DecodeOptions, device: torch.device, streaming: bool = False) -> None:
        model = trained.config.model
        self.trained, self.options, self.device, self.streaming = trained, options, device, streaming
        self.chunk = chunk_frames(model, options.chunk_seconds, streaming)
        self.search = make_search(options, trained.model, trained.config.loss.topology, trained.tokenizer)
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
