"""Validations of a training, and what they show of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch

from asr.config import TrainConfig
from asr.console import visible
from asr.data.batch import Batch, Skipped
from asr.data.dataset import Draw
from asr.data.features import SAMPLING_RATE, load_samples
from asr.data.tokenizer import Tokenizer
from asr.decode.decoder import Decoder
from asr.errors import InputError, Stopped
from asr.plot.lattice import draw_lattice, view_lattice
from asr.runs.directory import RunDirectory
from asr.runs.state import interval_of, unit_of
from asr.runs.trained import (
    AUTO,
    AVERAGE,
    EMA,
    Trained,
    chosen_checkpoints,
    piece_lengths,
    record_averages,
    resolve,
    validated_averages,
)
from asr.score.wer import RATES, UNITS, within
from asr.train.data import TrainingData
from asr.train.loop import Trainer
from asr.train.skips import SkipLog
from asr.train.task import Task, load_task
from asr.train.validate import Validation, validate

LEFT_FRAMES, RIGHT_FRAMES, PRUNE_RANGE = 5, 10, 5  # of the bounds drawn over the lattice in TensorBoard
EXAMPLES = 5  # hypotheses shown in TensorBoard

T = TypeVar("T")


def validation_decoder(task: Task, config: TrainConfig, tokenizer: Tokenizer, device: torch.device) -> Decoder:
    """What decodes in validations, as `asr decode` does, with the weights as they are.

    Raises InputError where its search lacks something.
    """
    was_training = task.training
    task.eval()  # a search may evaluate the model as soon as it is made
    lengths = piece_lengths(RunDirectory(Path(config.run)), config)
    trained = Trained(task.model, tokenizer, config, "in training", lengths=lengths)
    decoder = Decoder(trained, config.decode, device)
    task.train(was_training)
    return decoder


class Observer:
    """Validates in the course of a training, and logs what comes of it.

    Raises InputError where two utterances to validate on have one id.
    """

    def __init__(self, data: TrainingData, tokenizer: Tokenizer, config: TrainConfig) -> None:
        self.data, self.tokenizer, self.config = data, tokenizer, config
        self.ids, self.without_loss = data.valid_ids, data.without_loss
        self.logger = logging.getLogger("asr")
        self.begun, self.measure = False, ""  # whether what stays the same was shown, and what the rates are
        self.skips = SkipLog(self.logger, "validation: skipped")
        self.no_loss = SkipLog(self.logger, "validation: no loss, though decoded, of")

    def begin(self) -> None:
        """Name the utterances to validate on that will have no loss."""
        self.no_loss.add(Skipped(name, reason) for name, reason in self.without_loss.items())

    def validate(self, task: Task, trainer: Trainer) -> Validation:
        """What comes of the held-out utterances under `task`; what is left out is named."""
        decoder = validation_decoder(task, self.config, self.tokenizer, trainer.device)
        batches = until_stopped(self.data.validation(decoder.in_one_piece), trainer)
        long = until_stopped(self.data.share_of_validation(decoder.too_long), trainer)
        unit = self.config.unit
        found = validate(task, batches, decoder, trainer.device, trainer.ranks, self.without_loss, long, unit)
        self.skips.add(found.skipped)
        self.no_loss.add(found.no_loss)
        return found

    def __call__(self, step: int, trainer: Trainer) -> dict[str, float]:
        """Validate, log the metrics, and show a few hypotheses. No metrics are returned where nothing could be read."""
        found = self.validate(trainer.task, trainer)
        metrics = found.measure()
        if trainer.ranks.leads:
            trainer.run.write_metrics(step, metrics, "validation")
            if found.utterances:
                self.logger.info("step %d  validation: %s", step, described(metrics))
                self.show(step, trainer, found, metrics)
            else:
                self.logger.error(
                    "step %d  validation: NONE of %d utterances could be read, so there is no error rate and no best "
                    "checkpoint: see the skipped ones above",
                    step,
                    len(found.skipped),
                )
        return metrics if found.utterances else {}

    def validate_averages(self, trainer: Trainer) -> None:
        """Once a training is done, see how its averages do, for `checkpoint=auto`; all processes call this alike."""
        run, metrics = trainer.run, {}
        known = self.averages(run) if trainer.ranks.leads else []  # by the process that has written the last checkpoint
        for name in trainer.ranks.share(known)[0]:
            found = self.validate(load_task(str(run.path), name, trainer.device)[0], trainer)
            metrics[name] = found.measure()
            if found.utterances:
                self.logger.info("%s of %s: %s", name, run.path.name, described(metrics[name]))
        if metrics and trainer.ranks.leads:
            record_averages(run, metrics)
            self.logger.info("checkpoint=auto, the default of decoding, is %s", resolve(run, AUTO))

    def averages(self, run: RunDirectory) -> list[str]:
        """The averages that are other models than the last checkpoint's; none where all have been validated."""
        several = len(chosen_checkpoints(run, AVERAGE)) > 1
        names = [AVERAGE] * several + [EMA] * bool(self.config.train.ema)
        return [] if {*validated_averages(run)} >= {*names} else names

    def show(self, step: int, trainer: Trainer, found: Validation, metrics: dict[str, float]) -> None:
        """Show hypotheses of utterances from all over the set, and the lattice of the first, in TensorBoard."""
        by_id = {one.id: one for one in found.utterances}
        examples = spread([by_id[name] for name in self.ids if name in by_id], EXAMPLES)
        if not self.begun:
            self.show_once(step, trainer, RATES[unit_of(metrics) or "word"], [one.id for one in examples])
        shown = ((one.id, f"REF {one.reference}", f"HYP {one.hypothesis}", "") for one in examples)
        trainer.run.write_examples(step, [visible(line) for lines in shown for line in lines])
        without_lattice = {one.id for one in found.no_loss}
        with_lattice = (cut for cut in self.data.valid_cuts if cut.id in by_id and cut.id not in without_lattice)
        batch = self.data.valid_set[Draw(list(islice(with_lattice, 1)))]
        if len(batch):
            show_lattice(step, trainer, batch, self.tokenizer)

    def show_once(self, step: int, trainer: Trainer, measure: str, names: Sequence[str]) -> None:
        """Show the options, and let utterances of these names be heard, in TensorBoard."""
        self.begun, self.measure = True, measure
        trainer.run.write_options(self.config, self.measure)
        for cut in (cut for cut in self.data.valid_cuts if cut.id in names):
            with contextlib.suppress(InputError):  # there may be nothing but features
                trainer.run.write_audio(step, visible(cut.id), torch.from_numpy(load_samples(cut)), SAMPLING_RATE)

    def end(self, trainer: Trainer) -> None:
        """Say that the training is done, in TensorBoard."""
        if self.begun and trainer.ranks.leads:
            trainer.run.write_options(self.config, self.measure, ended=True)


def until_stopped(items: Iterable[T], trainer: Trainer) -> Iterator[T]:
    """The items, while nobody asks to stop; raises Stopped then: a validation may take long, and can be repeated."""
    for item in items:
        if trainer.asked_to_stop:
            raise Stopped(number=trainer.asked_to_stop)
        yield item


def described(metrics: dict[str, float]) -> str:
    """A validation in one line: rates, and what they are not of. It has an error rate."""
    loss = f"loss {metrics['loss']:.3f}  " if "loss" in metrics else ""
    unit = unit_of(metrics)
    assert unit is not None
    errors = f"{metrics['errors']:.0f} of {metrics[UNITS[unit]]:.0f} {UNITS[unit]}"
    counts = {"utterances not read": metrics["skipped"], "without a loss": metrics["no_loss"]}
    left_out = [f"{what}: {count:.0f}" for what, count in counts.items() if count]
    rate = f"{RATES[unit].upper()} {metrics[RATES[unit]]:.2f} % ({', '.join([errors, *left_out])})"
    return f"{loss}{rate}{within(interval_of(metrics))}"


def spread(items: Sequence[T], count: int) -> list[T]:
    """So many of the items, or all, from the first to the last at equal distances."""
    if len(items) <= count:
        return list(items)
    return [items[round(number * (len(items) - 1) / (count - 1))] for number in range(count)]


def show_lattice(step: int, trainer: Trainer, batch: Batch, tokenizer: Tokenizer) -> None:
    """Draw the lattice of a batch's one utterance for TensorBoard."""
    was_training = trainer.task.training
    task, widths = trainer.task.eval(), (LEFT_FRAMES, RIGHT_FRAMES, PRUNE_RANGE)
    view = view_lattice(task.model, task.objective.transducer, batch.to(trainer.device), tokenizer.pieces, *widths)
    trainer.run.write_figure(step, "examples/lattice", draw_lattice(view, f"{batch.ids[0]}, step {step}"))
    trainer.task.train(was_training)
