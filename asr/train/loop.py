"""The training loop: steps, logs, validations, checkpoints, and an exact resume."""

from __future__ import annotations

import logging
import math
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tqdm import tqdm

from asr.config import OptimOptions, TrainOptions
from asr.data.augment import seed_torch
from asr.data.batch import Batch, Position
from asr.errors import InputError
from asr.losses.base import NotFiniteError
from asr.train import state
from asr.train.optim import make_optimizer, set_learning_rate
from asr.train.run import RunDirectory
from asr.train.task import Task

PATIENCE = 20  # consecutive steps without a finite gradient after which training gives up


class Trainer:
    """Trains a task until `options.steps`, or until `stop` is called.

    Every random draw of a step follows from (seed, step) or (seed, epoch, utterance); so weights,
    optimiser state, step number and stream position are all that an exact resume needs.

    batches: position → endless training batches from there on.
    validate: () → metrics; called every `validate_every` steps.
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
    ) -> None:
        self.task, self.batches, self.validate, self.run = task, batches, validate, run
        self.options, self.optim, self.device = options, optim, device
        self.optimizer = make_optimizer(task, task.model.encoder, optim)
        self.parts: dict[str, Any] = {"model": task.model, "objective": task.objective, "optimizer": self.optimizer}
        self.step, self.position = 0, Position()
        self.window: dict[str, float] = {}
        self.bad_steps = 0
        self.rate = 0.0
        self.stopping = False
        self.logger = logging.getLogger("asr")

    def stop(self) -> None:
        """Ask for a checkpoint and the end of training after the current step."""
        self.stopping = True

    def fit(self) -> bool:
        """Train. Returns whether all steps were done. Raises InputError where training diverges."""
        batches = self.batches(self.position)
        show_bar = sys.stderr.isatty()
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
        """The batches of one optimiser step, without those of which nothing could be read."""
        group: list[Batch] = []
        began = self.position.epoch
        while len(group) < self.options.accumulate:
            batch = next(batches)
            for utterance in batch.skipped:
                self.logger.warning("skipped %s: %s", utterance.id, utterance.reason)
            assert batch.position is not None
            self.position = batch.position
            if len(batch):
                group.append(batch)
            elif not group and batch.position.epoch > began + 1:
                raise InputError("no utterance of a whole epoch could be read: see the skipped ones above")
        return group

    def train_step(self, group: list[Batch]) -> None:
        """One optimiser step on the mean loss per label of `group`."""
        seed_torch("step", self.options.seed, self.step)
        self.rate = set_learning_rate(self.optimizer, self.step, self.options.steps, self.optim)
        self.optimizer.zero_grad(set_to_none=True)
        labels = max(sum(int(batch.label_lengths.sum()) for batch in group), 1)
        sums: dict[str, float] = defaultdict(float)
        fault = ""
        for batch in group:
            try:
                self.backward(batch, labels, sums)
            except NotFiniteError as error:
                fault = f"{batch.ids[error.utterance]}: {error}"
        norm = float(torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.optim.clip_norm or math.inf))
        if fault or not math.isfinite(norm):
            self.leave_out(fault or f"gradient norm is {norm}")
        else:
            self.optimizer.step()
            self.bad_steps = 0
            self.add_to_window(sums | {"gradient_norm": norm})
        self.step += 1

    def backward(self, batch: Batch, labels: int, sums: dict[str, float]) -> None:
        """Add the gradient of a batch's loss, per one of `labels` labels, and its terms to `sums`."""
        out = self.forward(batch.to(self.device))
        loss = out.per_utterance.sum() / labels
        loss.backward()
        terms = {name: value.sum() / labels for name, value in out.parts.items()}
        counts = {"nodes": out.nodes, "kept_nodes": out.kept, "widened": out.widened, "unaligned": out.unaligned}
        for name, value in {"loss": loss.detach(), **terms, **counts}.items():
            sums[name] += float(value)

    def forward(self, batch: Batch) -> Any:
        """The task under autocast, where asked for."""
        half = self.options.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return self.task(batch)

    def leave_out(self, fault: str) -> None:
        """Count a step that is not taken. Raises InputError where there are too many in a row."""
        self.bad_steps += 1
        self.logger.warning("step %d: %s; step not taken", self.step + 1, fault)
        if self.bad_steps >= PATIENCE:
            raise InputError(
                f"training diverged: no finite gradient for {PATIENCE} steps; lower optim.lr or lengthen the warm-up"
            )

    def add_to_window(self, sums: dict[str, float]) -> None:
        """Sum up what `log` will average; the window is part of a checkpoint."""
        for name, value in sums.items():
            self.window[name] = self.window.get(name, 0.0) + value
        self.window["steps"] = self.window.get("steps", 0) + 1

    def account(self, group: list[Batch], waited: float, seconds: float) -> None:
        """Add the clock's readings, which no resume can repeat, to the window."""
        audio = sum(batch.seconds for batch in group)
        for name, value in (("audio", audio), ("waited", waited), ("seconds", seconds)):
            self.window[name] = self.window.get(name, 0.0) + value

    def log(self, bar: tqdm[Any]) -> None:
        """Write the window's means to metrics.jsonl, TensorBoard and the console, and empty it."""
        window, self.window = self.window, {}
        steps, seconds = max(window.pop("steps", 0), 1), window.pop("seconds")
        audio, waited = window.pop("audio"), window.pop("waited")
        metrics = {name: value / steps for name, value in window.items()}
        metrics.setdefault("loss", math.nan)  # no step was taken
        metrics["lr"] = self.rate
        metrics["audio_seconds_per_second"] = audio / seconds
        metrics["waiting_share"] = waited / seconds
        metrics["peak_mb"] = peak_memory_mb(self.device)
        metrics["epoch"] = self.position.epoch
        self.run.write_metrics(self.step, metrics, "train")
        bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {audio / seconds:.0f} s/s", refresh=False)
        if bar.disable:
            remaining = (self.options.steps - self.step) * seconds / steps
            self.logger.info(
                "step %d/%d  loss %.3f  lr %.2e  %.0f s of audio/s  %s left",
                self.step,
                self.options.steps,
                metrics["loss"],
                metrics["lr"],
                audio / seconds,
                tqdm.format_interval(remaining),
            )

    def validate_and_save(self) -> None:
        """Validate and write a checkpoint where they are due."""
        last = self.step == self.options.steps
        metrics: dict[str, float] = {}
        if self.step % self.options.validate_every == 0 or self.step == self.options.steps:
            metrics = self.validate(self.step)
        regular = bool(metrics) or last or self.step % self.options.save_every == 0
        if regular or self.stopping:
            self.save(metrics, interim=not regular)

    def save(self, metrics: dict[str, float], interim: bool) -> None:
        """Write a checkpoint of this step, and delete those no longer needed."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        info = {"position": list(self.position), "window": self.window, "bad_steps": self.bad_steps}
        state.save(self.run.checkpoints, state.Checkpoint(self.step, metrics, parts, info), interim)
        state.prune(self.run.checkpoints, self.options.average_last)

    def restore(self, checkpoint: state.Checkpoint) -> None:
        """Go on from a checkpoint."""
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint.parts[name])
        self.step = checkpoint.step
        self.position = Position(*checkpoint.info["position"])
        self.window, self.bad_steps = checkpoint.info["window"], checkpoint.info["bad_steps"]


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
