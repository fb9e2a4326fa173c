"""The training loop: steps, logs, validations, checkpoints, and an exact resume."""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from asr.config import OptimOptions, TrainOptions
from asr.data.augment import seed_torch
from asr.data.batch import Batch, Position, SamplerState
from asr.data.loader import shortened
from asr.errors import InputError, Stopped
from asr.progress import told_if_slow
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.train import bad, window
from asr.train.average import MovingAverage
from asr.train.distributed import ALONE, Ranks
from asr.train.faults import explained
from asr.train.optim import learning_rate, make_optimizer, set_learning_rate
from asr.train.shard import align_buffers, divided_for, divided_like, gathered, whole
from asr.train.skips import SkipLog
from asr.train.task import Share, Task

RESCUE_SECONDS = 30.0  # that a last checkpoint waits for a step, or for another checkpoint, to end
Terms = list[tuple[str, Tensor | float]]  # of the batches of a step by name, as they are found

FIRST_BATCH = "waiting for the first batch: the data workers start, and read the manifests"
FIRST_STEP = "in the first step: what is compiled for it is kept for the next training, where it can be"


class Trainer:
    """Trains a task until `options.steps`, or until `stop` is called.

    Every random draw follows from (seed, number of the batch) or (seed, epoch, utterance); so weights,
    optimiser state, step number and stream position are all that an exact resume needs.

    A step takes the next `batches_per_step` batches of one stream, `accumulate` in each process, and follows the mean
    loss per label of all of them, whoever computes it: two processes do what one does with twice the `accumulate`.
    The processes call every method alike; the first alone writes.

    Whatever ends a training, the last whole step is in a checkpoint; but where the weights are divided, and a process
    is gone, nobody has them. The first step is, too: what cannot be written is better known then.

    batches: position → endless training batches of this process from there on; closed in the end.
    validate: step → metrics; called every `validate_every` steps, once these are in a checkpoint.
    """

    def __init__(
        self,
        task: Task,
        batches: Callable[[Position], Generator[Batch, None, None]],
        validate: Callable[[int], dict[str, float]],
        run: RunDirectory,
        options: TrainOptions,
        optim: OptimOptions,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.task, self.batches, self.validate, self.run = task, batches, validate, run
        self.options, self.optim, self.device, self.ranks = options, optim, device, ranks
        self.batches_per_step = options.accumulate * ranks.size
        self.share = ranks.wrap(Share(task), task.model.encoder.layers if options.shard else ())
        self.optimizer = make_optimizer(task, task.model.encoder, optim)
        self.parts: dict[str, Any] = {"model": task.model, "objective": task.objective, "optimizer": self.optimizer}
        self.average = MovingAverage(task.model, options.ema) if options.ema else None
        if self.average is not None:
            self.parts["ema"] = self.average
        self.step, self.position = 0, Position()
        self.window: dict[str, float] = {}
        self.bad_steps = 0
        self.rate = 0.0
        self.left_out = 0  # utterances, on the way to the group of this step
        self.asked_to_stop = self.stopping = 0  # the signal that asked this process, and that all have agreed on
        self.doing = "what comes before the first step"  # that a stop would have to wait for
        self.told: dict[str, object] = {}  # what else checkpoints tell
        self.validation_due = False  # of this step
        self.saved_step: int | None = None
        self.between_steps = True  # not while weights and what goes with them are changing
        self.saving = threading.RLock()  # which is held while a checkpoint is made, and while a step changes weights
        self.has_begun = False  # whether this process has done a step
        self.logger = logging.getLogger("asr")
        self.skips = SkipLog(self.logger)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Ask for a checkpoint and the end of training after the current step, on behalf of a signal.

        Of several the lowest counts: what a group is sent, workers pass on as SIGTERM.
        """
        self.asked_to_stop = min(self.asked_to_stop or number, number)

    def fit(self) -> bool:
        """Train. Returns whether all was done, or stops early where `stop` was called.

        Raises InputError where training diverges, memory runs out, or data or another process fail it.
        """
        group: list[Batch] = []
        try:
            with closing(self.batches(self.position)) as batches, self.progress_bar() as bar:
                self.catch_up(bar)
                while self.step < self.options.steps and not self.stopping:
                    started, cpu = time.perf_counter(), time.process_time()
                    with self.told_of_the_first(FIRST_BATCH):
                        group = self.take(batches)
                    waited = time.perf_counter() - started
                    with self.told_of_the_first(FIRST_STEP):
                        self.train_step(group)
                    self.account(group, waited, time.perf_counter() - started, time.process_time() - cpu)
                    bar.update()
                    if self.step % self.options.log_every == 0:
                        self.log(bar)
                    elif bar.disable and not self.has_begun:
                        self.tell_of_the_first(time.perf_counter() - started)
                    self.has_begun = True
                    self.save_and_validate()
        except Stopped:
            self.rescue()
        except Exception as error:
            self.rescue()
            raise explained(error, self.step + 1, group) from error
        return self.step >= self.options.steps and not self.validation_due

    def catch_up(self, bar: tqdm[Any]) -> None:
        """Do what the step that the run goes on from had still to do when it ended."""
        if self.line_due:
            self.log(bar)
        if self.validation_due:
            self.validate_and_complete()

    @property
    def line_due(self) -> bool:
        """Whether the metrics of this step are still to be written."""
        return bool(self.window) and self.step % self.options.log_every == 0

    @property
    def again(self) -> list[str]:
        """Which of this step's metrics will be written, though some of them may have been before the run ended."""
        return ["train"] * self.line_due + ["validation"] * self.validation_due

    def told_of_the_first(self, what: str) -> AbstractContextManager[None]:
        """`told_if_slow`, in the first step that this process does."""
        return nullcontext() if self.has_begun or not self.ranks.leads else told_if_slow(what, self.logger.info)

    def tell_of_the_first(self, seconds: float) -> None:
        """Say that it goes on: where steps are slow, it is minutes until the first line of metrics."""
        every = self.options.log_every
        self.logger.info("step %d took %.1f s; there is a line every %d steps", self.step, seconds, every)

    def progress_bar(self) -> tqdm[Any]:
        """A bar of steps, on a terminal."""
        hidden = not (self.ranks.leads and sys.stderr.isatty())
        return tqdm(total=self.options.steps, initial=self.step, unit="step", disable=hidden, dynamic_ncols=True)

    def take(self, batches: Iterator[Batch]) -> list[Batch]:
        """This process's batches of one step, of which something could be read in some process."""
        self.doing = f"the data of step {self.step + 1} are here"
        began, self.left_out = self.position.epoch, 0
        while True:
            group = list(islice(batches, self.options.accumulate))
            position = end_of(group)
            skipped = [utterance for batch in group for utterance in batch.skipped]
            shared = self.ranks.share((sum(map(len, group)), skipped))
            left_out = [one for _, skipped in shared for one in skipped]
            self.skips.add(left_out)
            self.left_out += len(left_out)
            if any(utterances for utterances, _ in shared):
                return group
            if position.epoch > began + 1:
                raise InputError("no utterance of a whole epoch could be read: see the skipped ones above")

    def train_step(self, group: list[Batch]) -> None:
        """One optimiser step on the mean loss per label of the `group` of every process."""
        self.doing = f"step {self.step + 1}, of {shortened([one for batch in group for one in batch.ids])}"
        position = end_of(group)
        self.rate = set_learning_rate(self.optimizer, self.step, self.options.steps, self.optim, position.epoch)
        self.optimizer.zero_grad(set_to_none=True)
        align_buffers(self.share)
        labels = max(sum(self.ranks.share(sum(int(batch.label_lengths.sum()) for batch in group))), 1)
        terms, own_faults = self.backward(group, labels)
        clipped = torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.optim.clip_norm or math.inf)
        sums, norm = read_together(terms, gathered(clipped))
        shared = self.ranks.share((sums, list(own_faults.values())))
        faults = [fault for _, faults in shared for fault in faults]
        with self.saving:
            if faults or not math.isfinite(norm):
                self.leave_out(group, own_faults, faults, norm)
            else:
                self.between_steps = False
                self.optimizer.step()
                if self.average is not None:
                    self.average.update()
                self.bad_steps = 0
                for sums in (*(sums for sums, _ in shared), {"gradient_norm": norm, "steps": 1}):
                    window.add(self.window, sums)
            if self.left_out:
                window.add(self.window, {"skipped": self.left_out})
            self.step, self.position = self.step + 1, position
            self.validation_due = self.step == self.options.steps or self.step % self.options.validate_every == 0
            self.between_steps = True

    def backward(self, group: list[Batch], labels: int) -> tuple[Terms, dict[int, str]]:
        """Add this process's part to the gradient of the loss per one of `labels` labels.

        Returns the terms of its batches, and what was wrong with these, by their place in the group.
        """
        all_terms: Terms = []
        faults = {}
        for index, batch in enumerate(group):
            seed_torch("step", self.options.seed, self.number_of(index))
            with self.ranks.accumulating(self.share, last=index == len(group) - 1):
                out, fault = self.forward(batch.to(self.device))
                loss = out.per_utterance.sum() / labels
                (loss * self.ranks.size).backward()  # of which the mean is taken
            if fault:
                faults[index] = fault
            terms = {name: value.sum() / labels for name, value in out.parts.items()}
            nodes = {"nodes": out.nodes, "kept_nodes": out.kept}
            utterances = {"widened": out.widened / batch.views, "unaligned": out.unaligned / batch.views}
            all_terms += {"loss": loss.detach(), **terms, **nodes, **utterances}.items()
        return all_terms, faults

    def forward(self, batch: Batch) -> Any:
        """`Share.forward` under autocast, where asked for."""
        half = self.options.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return self.share(batch)

    def number_of(self, index: int) -> int:
        """The number of a batch of this step in the stream, which its random draws follow from."""
        return self.step * self.batches_per_step + index * self.ranks.size + self.ranks.rank

    def leave_out(self, group: list[Batch], own_faults: dict[int, str], faults: list[str], norm: float) -> None:
        """Count a step that is not taken, and keep the batches at fault, of which each process has its own; all, where
        only their gradient tells. Raises InputError where there are too many such steps in a row."""
        self.bad_steps += 1
        ids = [one for ids in self.ranks.share([one for batch in group for one in batch.ids]) for one in ids]
        fault = "; ".join(faults) or f"gradient norm is {norm}, of {shortened(ids)}"
        self.logger.warning("step %d: %s; step not taken", self.step + 1, fault)
        for index, batch in enumerate(group):
            if len(batch) and (index in own_faults or not faults):
                kept = bad.keep(self.run, bad.Kept(batch, self.step + 1, self.number_of(index), fault))
                if kept:
                    self.logger.info("its batch is kept: see asr train run=%s replay=%s", self.run.path, kept)
        most = self.options.max_bad_steps
        if self.bad_steps >= most:
            raise InputError(
                f"training diverged: no finite gradient for {most} steps; lower optim.lr or lengthen the warm-up"
            )

    def account(self, group: list[Batch], waited: float, seconds: float, cpu: float) -> None:
        """Add audio and the clock's readings, which no resume can repeat, to the window; agree on whether to stop."""
        shared = self.ranks.share((sum(batch.seconds for batch in group), waited, self.asked_to_stop))
        audio, waits, stops = zip(*shared)
        clock = {"waited": max(waits), "seconds": seconds, "cpu_seconds": cpu}
        window.add(self.window, {"audio": sum(audio), **clock})
        self.stopping = min(filter(None, stops), default=0)

    def log(self, bar: tqdm[Any]) -> None:
        """Write the window's means to metrics.jsonl, TensorBoard and the console, and empty it."""
        done = self.window
        if not self.ranks.leads:
            self.window = {}
            return
        more = {"lr": self.rate, "peak_mb": window.peak_memory_mb(self.device), "epoch": self.position.epoch}
        metrics = window.means(done) | more
        self.run.write_metrics(self.step, metrics, "train")
        self.window = {}
        speed = metrics["audio_seconds_per_second"]
        bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {speed:.0f} s/s", refresh=False)
        remaining = (self.options.steps - self.step) * done.get("seconds", 0.0) / max(done.get("steps", 0), 1)
        self.logger.log(
            logging.INFO if bar.disable else logging.DEBUG,  # which train.log has, and not the console
            "step %d/%d  loss %.3f  lr %s  %.0f s of audio/s  %s left",
            self.step,
            self.options.steps,
            metrics["loss"],
            self.rates_in_words,
            speed,
            tqdm.format_interval(remaining),
        )

    @property
    def rates_in_words(self) -> str:
        """The learning rate of the last step, and the encoder's where that is still warming up."""
        last, steps, epoch = self.step - 1, self.options.steps, self.position.epoch
        heads = learning_rate(last, steps, self.optim, is_encoder=False, epoch=epoch)
        return f"{heads:.2e}" + f" (encoder {self.rate:.2e})" * (heads != self.rate)

    def save_and_validate(self) -> None:
        """Write a checkpoint, and validate, where they are due."""
        if self.validation_due or self.step % self.options.save_every == 0 or self.stopping or self.saved_step is None:
            self.save()
        if self.validation_due and not self.stopping:
            self.validate_and_complete()
        if self.stopping:
            self.ranks.share(None)  # or torchrun would end the first process, still writing, when the others end

    def validate_and_complete(self) -> None:
        """Validate, and add the metrics to the checkpoint of this step."""
        self.doing = f"a batch of the validation of step {self.step}, which is done again then"
        with whole(self.share):
            metrics = self.validate(self.step)
        self.validation_due = False
        if self.ranks.leads:
            state.complete(self.run.checkpoints, self.step, metrics)
            state.prune(self.run.checkpoints, self.options.average_last)

    def save(self) -> None:
        """`write_checkpoint`, as one thread alone."""
        with self.saving:
            self.write_checkpoint()

    def write_checkpoint(self) -> None:
        """Write a checkpoint of this step, and delete those no longer needed.

        An interim one between the steps that `save_every` asks for, and where a validation is to complete it.
        """
        self.doing = f"the checkpoint of step {self.step} is written"
        interim = self.validation_due or self.step % self.options.save_every != 0
        parts = {name: gathered(part.state_dict(), self.ranks.leads) for name, part in self.parts.items()}
        if not self.ranks.leads:
            self.saved_step = self.step
            return
        info = {
            "position": [self.position.epoch, self.position.batch],
            "sampler": self.position.sampler and self.position.sampler.as_json(),
            "batches_per_step": self.batches_per_step,
            "window": self.window,
            "bad_steps": self.bad_steps,
            "rate": self.rate,
            "validation_due": self.validation_due,
            "metrics": self.run.written,
            **self.told,
        }
        state.save(self.run.checkpoints, state.Checkpoint(self.step, {}, parts, info), interim)
        self.saved_step = self.step
        state.prune(self.run.checkpoints, self.options.average_last)

    def rescue(self) -> None:
        """Write a checkpoint of the last whole step, if this process has one and it is not written yet.

        Whichever thread asks for it: while another one changes weights or writes a checkpoint it waits, for a while.
        """
        divided = self.options.shard and self.ranks.size > 1
        if not self.ranks.leads or divided or not self.saving.acquire(timeout=RESCUE_SECONDS):
            return
        try:
            if not self.between_steps or self.step in (0, self.saved_step):
                return
            self.save()
        except (InputError, OSError, RuntimeError, MemoryError) as error:
            self.logger.warning("no checkpoint of step %d could be written (%s)", self.step, error)
        else:
            self.logger.info("step %d is in a checkpoint", self.step)
        finally:
            self.saving.release()

    def restore(self, checkpoint: state.Checkpoint, elsewhere: bool = False) -> None:
        """Go on from a checkpoint; `elsewhere`: at the next epoch, since its place is in another stream of batches.

        Raises InputError where its steps were of another number of batches, or it is of something else.
        """
        with state.understood(self.run.checkpoints / state.checkpoint_name(checkpoint.step, interim=False)):
            self.take_over(checkpoint, elsewhere)

    def take_over(self, checkpoint: state.Checkpoint, elsewhere: bool) -> None:
        """`restore`, with the errors that foreign contents make."""
        check_batches_per_step(checkpoint.info.get("batches_per_step", self.options.accumulate), self.batches_per_step)
        asked = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        state.require_finite(checkpoint.parts["model"])
        for name, part in self.parts.items():
            saved = checkpoint.parts[name]
            is_optimizer = part is self.optimizer
            part.load_state_dict(divided_for(part, saved) if is_optimizer else divided_like(saved, part.state_dict()))
        for group, options in zip(self.optimizer.param_groups, asked):
            group.update(options)  # not those that were saved: they may have been changed
        self.step = self.saved_step = checkpoint.step
        self.validation_due = checkpoint.info.get("validation_due", False)
        self.rate = checkpoint.info.get("rate", 0.0)
        self.position = position_in(checkpoint.info)
        if elsewhere and self.position.batch:
            self.position = Position(self.position.epoch + 1)
        self.window, self.bad_steps = checkpoint.info["window"], checkpoint.info["bad_steps"]


def read_together(terms: Terms, norm: Tensor) -> tuple[dict[str, float], float]:
    """The sum of the terms of each name, and the norm of the gradient, by one copy: a GPU is waited for once."""
    on_device = [value for _, value in terms if isinstance(value, Tensor)]
    device = on_device[0].device if on_device else norm.device  # where weights are divided, the norm is elsewhere
    numbers = iter(torch.stack([value.double().to(device) for value in [*on_device, norm]]).tolist())
    sums: dict[str, float] = defaultdict(float)
    for name, value in terms:
        sums[name] += next(numbers) if isinstance(value, Tensor) else float(value)
    return dict(sums), next(numbers)


def position_in(info: dict[str, Any]) -> Position:
    """The place in the stream that a checkpoint tells; older ones tell no state of the sampler."""
    epoch, batch = info["position"]
    sampler = info.get("sampler")
    return Position(epoch, batch, SamplerState.from_json(sampler) if sampler else None)


def check_batches_per_step(before: int, now: int) -> None:
    """Raise InputError where a run would go on with steps of another size."""
    if before != now:
        raise InputError(
            f"the run was begun with {before} batches a step, not {now}: processes times train.accumulate must be "
            f"{before}, or give another run="
        )


def end_of(group: list[Batch]) -> Position:
    """Where the stream stands once these batches are done."""
    position = group[-1].position
    assert position is not None
    return position
