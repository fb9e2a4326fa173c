"""The training loop: steps, logs, validations, checkpoints, and an exact resume."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from tqdm import tqdm

from asr.config import OptimOptions, TrainOptions
from asr.data.augment import seed_torch
from asr.data.batch import Batch, Position
from asr.errors import InputError
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.train import window
from asr.train.average import MovingAverage
from asr.train.distributed import ALONE, Ranks
from asr.train.optim import make_optimizer, set_learning_rate
from asr.train.shard import align_buffers, divided_for, divided_like, gathered, whole
from asr.train.task import Share, Task

PATIENCE = 20  # consecutive steps without a finite gradient after which training gives up


class Trainer:
    """Trains a task until `options.steps`, or until `stop` is called.

    Every random draw follows from (seed, number of the batch) or (seed, epoch, utterance); so weights,
    optimiser state, step number and stream position are all that an exact resume needs.

    A step takes the next `batches_per_step` batches of one stream, `accumulate` in each process, and follows the mean
    loss per label of all of them, whoever computes it: two processes do what one does with twice the `accumulate`.
    The processes call every method alike; the first alone writes.

    batches: position → endless training batches of this process from there on.
    validate: step → metrics; called every `validate_every` steps.
    """

    def __init__(
        self,
        task: Task,
        batches: Callable[[Position], Iterator[Batch]],
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
        self.asked_to_stop = self.stopping = False
        self.told: dict[str, object] = {}  # what else checkpoints tell
        self.logger = logging.getLogger("asr")

    def stop(self) -> None:
        """Ask for a checkpoint and the end of training after the current step."""
        self.asked_to_stop = True

    def fit(self) -> bool:
        """Train. Returns whether all steps were done. Raises InputError where training diverges."""
        batches = self.batches(self.position)
        show_bar = self.ranks.leads and sys.stderr.isatty()
        with tqdm(
            total=self.options.steps, initial=self.step, unit="step", disable=not show_bar, dynamic_ncols=True
        ) as bar:
            while self.step < self.options.steps and not self.stopping:
                started = time.perf_counter()
                group = self.take(batches)
                waited = time.perf_counter() - started
                self.train_step(group)
                self.account(group, waited, time.perf_counter() - started)
                bar.update()
                if self.step % self.options.log_every == 0:
                    self.log(bar)
                self.validate_and_save()
        return self.step >= self.options.steps

    def take(self, batches: Iterator[Batch]) -> list[Batch]:
        """This process's batches of one step, of which something could be read in some process."""
        began = self.position.epoch
        while True:
            group = list(islice(batches, self.options.accumulate))
            assert group[-1].position is not None
            self.position = group[-1].position
            skipped = [utterance for batch in group for utterance in batch.skipped]
            shared = self.ranks.share((sum(map(len, group)), skipped))
            for utterance in (one for _, skipped in shared for one in skipped):
                self.logger.warning("skipped %s: %s", utterance.id, utterance.reason)
            if any(utterances for utterances, _ in shared):
                return group
            if self.position.epoch > began + 1:
                raise InputError("no utterance of a whole epoch could be read: see the skipped ones above")

    def train_step(self, group: list[Batch]) -> None:
        """One optimiser step on the mean loss per label of the `group` of every process."""
        self.rate = set_learning_rate(self.optimizer, self.step, self.options.steps, self.optim, self.position.epoch)
        self.optimizer.zero_grad(set_to_none=True)
        align_buffers(self.share)
        labels = max(sum(self.ranks.share(sum(int(batch.label_lengths.sum()) for batch in group))), 1)
        sums, faults = self.backward(group, labels)
        shared = self.ranks.share((dict(sums), faults))
        faults = [fault for _, faults in shared for fault in faults]
        clipped = torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.optim.clip_norm or math.inf)
        norm = float(gathered(clipped))
        if faults or not math.isfinite(norm):
            self.leave_out("; ".join(faults) or f"gradient norm is {norm}")
        else:
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
            self.bad_steps = 0
            for sums in (*(sums for sums, _ in shared), {"gradient_norm": norm, "steps": 1}):
                window.add(self.window, sums)
        self.step += 1

    def backward(self, group: list[Batch], labels: int) -> tuple[dict[str, float], list[str]]:
        """Add this process's part to the gradient of the loss per one of `labels` labels.

        Returns the sums of its terms, and what was wrong with batches.
        """
        sums: dict[str, float] = defaultdict(float)
        faults = []
        for index, batch in enumerate(group):
            number = self.step * self.batches_per_step + index * self.ranks.size + self.ranks.rank
            seed_torch("step", self.options.seed, number)
            with self.ranks.accumulating(self.share, last=index == len(group) - 1):
                out, fault = self.forward(batch.to(self.device))
                loss = out.per_utterance.sum() / labels
                (loss * self.ranks.size).backward()  # of which the mean is taken
            faults += [fault] * bool(fault)
            terms = {name: value.sum() / labels for name, value in out.parts.items()}
            counts = {"nodes": out.nodes, "kept_nodes": out.kept, "widened": out.widened, "unaligned": out.unaligned}
            for name, value in {"loss": loss.detach(), **terms, **counts}.items():
                sums[name] += float(value)
        return sums, faults

    def forward(self, batch: Batch) -> Any:
        """`Share.forward` under autocast, where asked for."""
        half = self.options.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return self.share(batch)

    def leave_out(self, fault: str) -> None:
        """Count a step that is not taken. Raises InputError where there are too many in a row."""
        self.bad_steps += 1
        self.logger.warning("step %d: %s; step not taken", self.step + 1, fault)
        if self.bad_steps >= PATIENCE:
            raise InputError(
                f"training diverged: no finite gradient for {PATIENCE} steps; lower optim.lr or lengthen the warm-up"
            )

    def account(self, group: list[Batch], waited: float, seconds: float) -> None:
        """Add audio and the clock's readings, which no resume can repeat, to the window; agree on whether to stop."""
        shared = self.ranks.share((sum(batch.seconds for batch in group), waited, self.asked_to_stop))
        audio, waits, stops = zip(*shared)
        window.add(self.window, {"audio": sum(audio), "waited": max(waits), "seconds": seconds})
        self.stopping = any(stops)

    def log(self, bar: tqdm[Any]) -> None:
        """Write the window's means to metrics.jsonl, TensorBoard and the console, and empty it."""
        done, self.window = self.window, {}
        if not self.ranks.leads:
            return
        more = {"lr": self.rate, "peak_mb": window.peak_memory_mb(self.device), "epoch": self.position.epoch}
        metrics = window.means(done) | more
        self.run.write_metrics(self.step, metrics, "train")
        speed = metrics["audio_seconds_per_second"]
        bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {speed:.0f} s/s", refresh=False)
        if bar.disable:
            remaining = (self.options.steps - self.step) * done["seconds"] / max(done.get("steps", 0), 1)
            self.logger.info(
                "step %d/%d  loss %.3f  lr %.2e  %.0f s of audio/s  %s left",
                self.step,
                self.options.steps,
                metrics["loss"],
                self.rate,
                speed,
                tqdm.format_interval(remaining),
            )

    def validate_and_save(self) -> None:
        """Validate and write a checkpoint where they are due."""
        last = self.step == self.options.steps
        metrics: dict[str, float] = {}
        if self.step % self.options.validate_every == 0 or self.step == self.options.steps:
            with whole(self.share):
                metrics = self.validate(self.step)
        regular = bool(metrics) or last or self.step % self.options.save_every == 0
        if regular or self.stopping:
            self.save(metrics, interim=not regular)
        if self.stopping:
            self.ranks.share(None)  # or torchrun would end the first process, still writing, when the others end

    def save(self, metrics: dict[str, float], interim: bool) -> None:
        """Write a checkpoint of this step, and delete those no longer needed."""
        parts = {name: gathered(part.state_dict(), self.ranks.leads) for name, part in self.parts.items()}
        if not self.ranks.leads:
            return
        info = {
            "position": list(self.position),
            "batches_per_step": self.batches_per_step,
            "window": self.window,
            "bad_steps": self.bad_steps,
            **self.told,
        }
        state.save(self.run.checkpoints, state.Checkpoint(self.step, metrics, parts, info), interim)
        state.prune(self.run.checkpoints, self.options.average_last)

    def restore(self, checkpoint: state.Checkpoint) -> None:
        """Go on from a checkpoint. Raises InputError where its steps were of another number of batches."""
        check_batches_per_step(checkpoint.info.get("batches_per_step", self.options.accumulate), self.batches_per_step)
        for name, part in self.parts.items():
            saved = checkpoint.parts[name]
            is_optimizer = part is self.optimizer
            part.load_state_dict(divided_for(part, saved) if is_optimizer else divided_like(saved, part.state_dict()))
        self.step = checkpoint.step
        self.position = Position(*checkpoint.info["position"])
        self.window, self.bad_steps = checkpoint.info["window"], checkpoint.info["bad_steps"]


def check_batches_per_step(before: int, now: int) -> None:
    """Raise InputError where a run would go on with steps of another size."""
    if before != now:
        raise InputError(
            f"the run was begun with {before} batches a step, not {now}: processes times train.accumulate must be "
            f"{before}, or give another run="
        )
