"""Validations of a training, and what they show of it."""

from __future__ import annotations

from asr.config import TrainConfig
from asr.data.dataset import Draw
from asr.data.tokenizer import Tokenizer
from asr.decode.make import make_search
from asr.decode.search import Search
from asr.decode.stream import chunk_frames
from asr.plot.lattice import draw_lattice, view_lattice
from asr.train.data import TrainingData
from asr.train.loop import Trainer
from asr.train.task import Task
from asr.train.validate import validate

LEFT_FRAMES, RIGHT_FRAMES, PRUNE_RANGE = 5, 10, 5  # of the bounds drawn over the lattice in TensorBoard


def validation_search(task: Task, config: TrainConfig, tokenizer: Tokenizer) -> tuple[Search, int]:
    """The search of validations for the weights as they are, and the chunks that the encoder works in.

    Raises InputError where the search lacks something.
    """
    was_training = task.training
    task.eval()  # a search may evaluate the model as soon as it is made
    search = make_search(config.decode, task.model, config.loss, tokenizer)
    task.train(was_training)
    return search, chunk_frames(config.model, config.decode.chunk_seconds, streaming=False)


def run_validation(
    step: int, trainer: Trainer, data: TrainingData, tokenizer: Tokenizer, config: TrainConfig
) -> dict[str, float]:
    """Validate, log the metrics, and show a few hypotheses."""
    search, chunk = validation_search(trainer.task, config, tokenizer)
    metrics, utterances = validate(
        trainer.task, data.validation(), search, tokenizer, trainer.device, trainer.ranks, chunk
    )
    if metrics and trainer.ranks.leads:
        trainer.run.write_metrics(step, metrics, "validation")
        trainer.logger.info("step %d  validation: loss %.3f  WER %.2f %%", step, metrics["loss"], metrics["wer"])
        shown = (f"{u.id}  \nREF {u.reference}  \nHYP {u.hypothesis}" for u in utterances[:5])
        trainer.run.write_examples(step, "\n\n".join(shown))
        show_lattice(step, trainer, data, tokenizer)
    return metrics


def show_lattice(step: int, trainer: Trainer, data: TrainingData, tokenizer: Tokenizer) -> None:
    """Draw the lattice of the first validation utterance for TensorBoard."""
    was_training = trainer.task.training
    batch = data.valid_set[Draw([next(iter(data.valid_cuts))])].to(trainer.device)
    if len(batch):
        view = view_lattice(trainer.task.eval(), batch, tokenizer.pieces, LEFT_FRAMES, RIGHT_FRAMES, PRUNE_RANGE)
        trainer.run.write_figure(step, "validation/lattice", draw_lattice(view, f"{batch.ids[0]}, step {step}"))
    trainer.task.train(was_training)
