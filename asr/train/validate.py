"""Loss and word error rate on held-out utterances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import torch
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from asr.data.batch import Batch, Skipped
from asr.data.words import aligned_words
from asr.device import is_out_of_memory
from asr.losses.base import NotFiniteError
from asr.score.delay import emission_delays
from asr.score.wer import AUTO, RATES, UNITS, Utterance, ends_of, score
from asr.train.distributed import ALONE, Ranks
from asr.train.task import Task

T = TypeVar("T")


class BatchDecoder(Protocol):
    """What `asr.decode.decoder.Decoder` does."""

    def decode(self, batch: Batch) -> list[list[Utterance] | Skipped]:
        """The hypotheses of each utterance of a batch, best first, or why it has none."""

    def decode_long(self, cut: Cut) -> list[Utterance] | Skipped:
        """Those of an utterance that is decoded in pieces."""


@dataclass
class Validation:
    """What came of held-out utterances, or of some of them.

    utterances: what was recognised of those that could be read; all of them count in the error rate.
    loss, labels: sum of losses, nats, and number of labels of those that have a loss.
    words: times of words, by utterance. skipped: could not be read. no_loss: were recognised, but have no loss.
    unit: that errors are counted in, as `asr.score.wer.score` takes it.
    """

    utterances: list[Utterance] = field(default_factory=list)
    loss: float = 0.0
    labels: int = 0
    words: dict[str, Sequence[AlignmentItem]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    no_loss: list[Skipped] = field(default_factory=list)
    unit: str = AUTO

    def add(self, other: Validation) -> None:
        """Take in what came of other utterances."""
        self.utterances += other.utterances
        self.loss, self.labels = self.loss + other.loss, self.labels + other.labels
        self.words.update(other.words)
        self.skipped += other.skipped
        self.no_loss += other.no_loss

    def of(self, batch: Batch) -> Batch:
        """The utterances of a batch that were recognised."""
        known = {one.id for one in self.utterances}
        return batch.select([row for row, name in enumerate(batch.ids) if name in known])

    def measure(self) -> dict[str, float]:
        """Score all of it, which takes a bootstrap.

        Numbers of "utterances" in the rate, of those "skipped" and of those with "no_loss"; and where there are any
        "loss" (nats per label), "wer" (percent), "wer_low" and "wer_high" that hold it (see `asr.score.bootstrap`),
        "words" in it and "errors" in them, or "cer", "characters" and so on; and of utterances with times of words
        "delay" and "last_delay" (means, seconds; see `asr.score.delay`)."""
        found = {"loss": self.loss / max(self.labels, 1)} if len(self.utterances) > len(self.no_loss) else {}
        counts: dict[str, float] = {
            "utterances": len(self.utterances),
            "skipped": len(self.skipped),
            "no_loss": len(self.no_loss),
        }
        if not self.utterances:
            return counts
        scored = score(self.utterances, self.unit)
        errors = scored.errors
        found |= dict(zip(ends_of(scored.unit), scored.interval or ()))
        found |= {RATES[scored.unit]: errors.rate, UNITS[scored.unit]: errors.words, "errors": errors.total, **counts}
        return found | emission_delays(self.utterances, self.words).metrics()


@torch.inference_mode()
def validate(
    task: Task,
    batches: Iterable[Batch],
    decoder: BatchDecoder,
    device: torch.device,
    ranks: Ranks = ALONE,
    without_loss: Mapping[str, str] | None = None,
    long: Iterable[Cut] = (),
    unit: str = AUTO,
) -> Validation:
    """Recognise the utterances of all batches that can be read, and compute the loss of those that have one.

    batches: this process's share of them; all processes return what came of all shares.
    decoder: of the task's model. without_loss: why utterances have no loss, by id. long: this process's share of those
    that are decoded in pieces, and have none. unit: that errors are counted in.
    Draws no random number, so that validating changes nothing in training.
    """
    was_training = task.training
    task.eval()
    share = Validation()
    for batch in batches:
        share.add(Validation(skipped=batch.skipped))
        if len(batch):
            batch = batch.to(device)
            found = recognise(batch, decoder)
            share.add(found)
            share.add(sum_losses(task, found.of(batch), without_loss or {}))
    for cut in long:
        share.add(recognise_long(cut, decoder))
    task.train(was_training)
    return replace(joined(ranks.share(share)), unit=unit)


def recognise(batch: Batch, decoder: BatchDecoder) -> Validation:
    """What the decoder finds, of a batch or, where memory is short, of each utterance alone."""

    def found(batch: Batch) -> Validation:
        results = decoder.decode(batch)
        best = [result[0] for result in results if not isinstance(result, Skipped)]
        unfit = [result for result in results if isinstance(result, Skipped)]
        return Validation(best, words=dict(zip(batch.ids, batch.words)), skipped=unfit)

    parts, skipped = in_parts(found, batch)
    return joined([*parts, Validation(skipped=skipped)])


def recognise_long(cut: Cut, decoder: BatchDecoder) -> Validation:
    """What the decoder finds of an utterance in pieces."""
    result = decoder.decode_long(cut)
    if isinstance(result, Skipped):
        return Validation(skipped=[result])
    no_loss = Skipped(cut.id, f"lasts {cut.duration:.1f} s, and is decoded in pieces")
    return Validation([result[0]], words={cut.id: aligned_words(cut)}, no_loss=[no_loss])


def sum_losses(task: Task, batch: Batch, without_loss: Mapping[str, str]) -> Validation:
    """The losses of the utterances that have one; those whose loss is not finite have none, nor those that need too
    much memory."""

    def losses(batch: Batch) -> Validation:
        total = float(task(batch).per_utterance.double().sum())
        if not math.isfinite(total):
            raise NotFiniteError(0)
        return Validation(loss=total, labels=int(batch.label_lengths.sum()))

    no_loss = [Skipped(name, without_loss[name]) for name in batch.ids if name in without_loss]
    rows = [row for row, name in enumerate(batch.ids) if name not in without_loss]
    if not rows:
        return Validation(no_loss=no_loss)
    parts, faults = in_parts(losses, batch.select(rows))
    return joined([*parts, Validation(no_loss=[*no_loss, *faults])])


def in_parts(work: Callable[[Batch], T], batch: Batch) -> tuple[list[T], list[Skipped]]:
    """`work` of the batch or, where a loss is not finite or memory is short, of each utterance alone; and those of
    which it is so even then."""
    try:
        return [work(batch)], []
    except (NotFiniteError, RuntimeError, MemoryError) as error:
        short = is_out_of_memory(error)
        if not (short or isinstance(error, NotFiniteError)):
            raise
        if len(batch) == 1:
            return [], [Skipped(batch.ids[0], "too little memory" if short else "its loss is NaN or infinite")]
    found = [in_parts(work, batch.select([row])) for row in range(len(batch))]
    return [part for parts, _ in found for part in parts], [one for _, left in found for one in left]


def joined(parts: Iterable[Validation]) -> Validation:
    """What came of all of them."""
    whole = Validation()
    for one in parts:
        whole.add(one)
    return whole
