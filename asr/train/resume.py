"""Whether a run may go on with these options, and what is kept of it where they change the training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from asr.config import TrainConfig
from asr.data.contents import Contents, read_contents
from asr.data.tokenizer import Tokenizer, load_tokenizer
from asr.errors import InputError
from asr.files import write_atomically, writing
from asr.options import flatten, shown
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.trained import load_config
from asr.train.precision import LEFT

MAY_CHANGE = {  # options that a run may be continued with at another value: they do not change what is trained
    "run",
    "model.checkpoint_layers",
    "loss.chunk_nodes",
    "loss.backend",
    "loss.joint",
    "data.valid_cuts",
    "data.root",
    "data.tokenizer",  # by its pieces: see check_tokenizer
    "data.workers",
    "data.timeout",
    "train.steps",
    "train.shard",
    "train.accumulate",  # with another number of processes: see check_batches_per_step
    "train.device",
    "train.compile",
    "train.log_every",
    "train.validate_every",
    "train.save_every",
    "train.average_last",
    "train.max_bad_steps",
    "train.change",
    "unit",
    "replay",
}
MAY_CHANGE_ALL = ("decode.",)  # sections of such options: how validations search
TRAINED = "data.train_cuts"
BY_CONTENTS = (TRAINED, "data.noise.cuts")  # that manifests hold, wherever they lie
CHANGEABLE = {  # of the options that say what the weights are, those that the weights do not depend on
    "model.dropout",
    "model.context_dropout",
    "model.left_context",
    "model.right_context",
    "model.chunk_frames",
}
BEGINNING = "train.init", "train.init_checkpoint", "train.init_except", "train.freeze"
LORA = "train.lora.rank", "train.lora.alpha"
ARCS = "loss.arcs.name", "loss.arcs.durations", "loss.arcs.big_blanks"
FIXED = "loss.name", *ARCS, "loss.bounds", "optim.name", *BEGINNING, *LORA
FACTORS = "optim.lr_factors."  # of parts of the model, whose parameters the optimiser keeps apart
FIXED_AT_ZERO = "train.ema", "train.ctc_weight", "train.frame_weight"  # there are weights of it, or there are none
STREAM = "data.", "train.seed"  # what the order of the batches depends on
VIEWS = "loss.consistency", "train.ctc_consistency"  # unless 0, a batch has half as many utterances, twice


class Change(NamedTuple):
    """An option, its value so far, and the one asked for."""

    option: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.option}={shown(self.now)}, so far {shown(self.before)}"

    @property
    def of_stream(self) -> bool:
        """Whether other utterances make a batch."""
        has_views = self.option in VIEWS and bool(self.before) != bool(self.now)
        return has_views or self.option.startswith(STREAM)

    @property
    def possible(self) -> bool:
        """Whether the weights and the optimiser's state could go on so."""
        if self.option in FIXED_AT_ZERO:
            return bool(self.before) == bool(self.now)
        if self.option.startswith(FACTORS):
            return self.before is not None and self.now is not None
        return self.option not in FIXED and (not self.option.startswith("model.") or self.option in CHANGEABLE)


@dataclasses.dataclass(frozen=True)
class Resumption:
    """What a run goes on with. contents: of the manifests, by option. changes: of what it was begun with. steps: that
    were asked for so far.

    rows_known: the rows to train on are those of the last start, which has looked at each.
    """

    contents: dict[str, Contents]
    changes: list[Change]
    steps: int = 0
    rows_known: bool = False

    @property
    def of_stream(self) -> bool:
        """Whether the place of a batch in the stream is no longer what it was."""
        return any(change.of_stream for change in self.changes)


def check_same_run(run: RunDirectory, config: TrainConfig) -> Resumption:
    """Raise InputError where the run was begun with options that change the result, unless that is asked for."""
    if not state.resumable(run.checkpoints):
        return Resumption(contents_of(config, {}), [])
    recorded = read_record(run)
    contents = contents_of(config, recorded)
    if not run.config.is_file():
        raise InputError(f"{run.path} has checkpoints but no config.yaml: give another run=, or delete the directory")
    before = load_config(run)
    changes = compare(before, config, recorded, contents)
    impossible = [change for change in changes if not change.possible]
    refused = impossible if config.train.change else impossible + [one for one in changes if one.possible]
    if refused:
        first = refused[0]
        raise InputError(
            f"{run.path} was begun with {first.option}={shown(first.before)}, not {shown(first.now)}"
            + (f" (and {len(refused) - 1} more options differ)" if len(refused) > 1 else "")
            + ": give another run=, or delete the directory"
            + ("" if impossible else "; train.change=true goes on with the change from here")
        )
    rows_known = contents[TRAINED].still(recorded.get(TRAINED))
    return Resumption(contents, changes, before.train.steps, rows_known)


def compare(
    before: TrainConfig, now: TrainConfig, recorded: dict[str, Contents], contents: dict[str, Contents]
) -> list[Change]:
    """What changes the training. Manifests of which there is no record are the same where their paths are.

    A precision that is left to the run is the one that it has.
    """
    old, new = options_of(before), options_of(now)
    if new["train.precision"] in LEFT:
        new["train.precision"] = old["train.precision"]
    changes = [Change(name, old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)]
    for name in BY_CONTENTS:
        if name in recorded:
            changes = [change for change in changes if change.option != name]
            changes += [Change(name, *described)] if (described := differing(recorded[name], contents[name])) else []
        elif resolved(old[name]) == resolved(new[name]):
            changes = [change for change in changes if change.option != name]
    if before.train.init and now.train.init and resolved([before.train.init]) == resolved([now.train.init]):
        changes = [change for change in changes if change.option != "train.init"]
    return changes


def options_of(config: TrainConfig) -> dict[str, Any]:
    """The options that a run may not be continued without."""
    flat = flatten(dataclasses.asdict(config))
    return {k: v for k, v in flat.items() if k not in MAY_CHANGE and not k.startswith(MAY_CHANGE_ALL)}


def resolved(paths: list[str]) -> list[Path]:
    """The paths without the ways of writing them."""
    return [Path(path).resolve() for path in paths]


def differing(before: Contents, now: Contents) -> tuple[str, str] | None:
    """How two contents are told apart, or nothing where they are the same."""
    if before == now:
        return None
    if before.utterances != now.utterances:
        return f"{before.utterances} utterances", f"{now.utterances}"
    return f"{before.utterances} utterances", "others of the same number, or in another order"


# Where it goes on


def find_checkpoint(run: RunDirectory, damaged: list[str]) -> state.Checkpoint | None:
    """The newest checkpoint that training can go on from, None before the first; messages about others go to `damaged`.

    Raises InputError where there is none any more, or where one that came later has lost its optimiser's state only:
    to go on before it would delete it.
    """
    checkpoint = state.newest_sound(run.checkpoints, damaged)
    if checkpoint is None and not damaged and run.last_step() > 1:  # after the first step there is one
        raise InputError(
            f"{run.path} has metrics up to step {run.last_step()}, and no checkpoint any more: put them back, or to "
            "begin anew delete the directory, or give another run="
        )
    done = checkpoint.step if checkpoint else -1
    for path in state.resumable(run.checkpoints):
        if state.step_of(path) > done and state.weights_only(path):
            other = f"delete {path.name} to go on from step {done}" if checkpoint else "give another run="
            raise InputError(
                f"{path} has no {state.part_file('optimizer')}: it can be decoded with, but training cannot go on from "
                f"it; put the file back, or {other}"
            )
    if damaged and checkpoint is None:
        raise InputError(
            f"{run.path}: training can go on from none of its checkpoints: give another run=, or delete the "
            f"directory ({damaged[0]})"
        )
    return checkpoint


# The record


def contents_of(config: TrainConfig, recorded: dict[str, Contents]) -> dict[str, Contents]:
    """What the manifests of a training hold, as recorded where it says so of the same files.

    Times of words count where the loss uses them.
    """
    options: dict[str, Any] = flatten(dataclasses.asdict(config))
    timed = config.loss.uses_alignment
    return {name: read_contents(options[name], timed, recorded.get(name)) for name in BY_CONTENTS}


def read_record(run: RunDirectory) -> dict[str, Contents]:
    """What the manifests held as of the last start of the training; of older runs there is no record."""
    if not run.data.is_file():
        return {}
    try:
        return {name: Contents(**one) for name, one in json.loads(run.data.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"{run.data}: damaged; delete it to go on without comparing the training data") from None


def write_record(run: RunDirectory, resumption: Resumption, step: int) -> None:
    """Keep what the training goes on with, and from which step on what was changed."""
    if resumption.changes:
        line = {"step": step, "changed": {one.option: [one.before, one.now] for one in resumption.changes}}
        with writing(run.changes), open(run.changes, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    text = json.dumps({name: dataclasses.asdict(one) for name, one in resumption.contents.items()}, indent=1)
    write_atomically(run.data, f"{text}\n".encode())


# What else has to be the same


def check_tokenizer(run: RunDirectory, tokenizer: Tokenizer, name: str) -> None:
    """Raise InputError where the run was begun with other pieces."""
    if state.resumable(run.checkpoints) and load_tokenizer(run.tokenizer).pieces != tokenizer.pieces:
        remedy = f"data.tokenizer={run.tokenizer} is the run's own; or give another run="
        raise InputError(f"{name} is not the tokenizer that {run.path} was begun with: {remedy}")


def check_steps(run: RunDirectory, done: int, steps: int) -> None:
    """Raise InputError where more steps are done than are asked for."""
    if done > steps:
        raise InputError(f"{run.path} has done {done} steps, train.steps={steps} are fewer: give more, or another run=")


def fewer_steps(before: int, now: int) -> list[str]:
    """What to say where a run is to end earlier than was asked for."""
    said = f"train.steps={now} are fewer than the {before} so far: what is left, and learning rates, follow from these"
    return [said] * (now < before)


def check_same_step(steps: list[int], run: RunDirectory) -> None:
    """Raise InputError where processes did not find the same checkpoint."""
    if len(set(steps)) > 1:
        raise InputError(f"the processes found checkpoints of steps {steps}: {run.path} must be one directory for all")
