"""A training that begins from a trained model: weights by name, those of the vocabulary by what each row means.

The normalisation of the features comes along with the weights, which have learnt to read what it gives: statistics of
the new speech would shift the input of all of them. `train.init_except=[encoder.normalize]` estimates them anew.

An encoder that is to be causal takes the convolutions of one that was not as far as it can: each tap stays at its
distance from the frame, and those of frames to come are dropped.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import torch
from torch import Tensor, nn

from asr.config import TrainConfig
from asr.data.tokenizer import Tokenizer
from asr.errors import InputError
from asr.files import write_atomically
from asr.options import shown
from asr.runs.directory import RunDirectory
from asr.runs.trained import Trained, load_trained, objective_weights
from asr.train.parts import fitting, outwards, short
from asr.train.resume import CHANGEABLE
from asr.train.task import Task

OBJECTIVE = "objective."
NORMALIZE = "encoder.normalize."
BY_OUTPUT = "joiner.output."  # has a row for each piece, and for what else arcs read
BY_PIECE = (
    "predictor.embedding.",
    "objective.ctc.output.",
    "objective.frames.output.",
    "objective.transducer.simple.am.",
    "objective.transducer.simple.lm.",
)
OVER_TIME = ".convolution.depthwise.weight"  # (D,1,K): the tap of the frame itself is the last, or the middle one
UNSEEN = "causal", "normalize"  # options that change what weights of the same shapes compute
IRRELEVANT = {*CHANGEABLE, "model.checkpoint_layers"}  # those that weights do not depend on

Rows = Mapping[str, Tensor]  # by the beginning of a tensor's name, from which row each of its rows comes, −1: none


@dataclass
class Begun:
    """What a training began from, and how much of it was carried over.

    source: as `train.init` names it. digest: of its weights. pieces, parameters: how many, of how many. fresh: the
    tensors that begin anew, but for single rows. doubts: what may be a mistake.
    """

    source: str
    checkpoint: str
    digest: str
    pieces: tuple[int, int]
    parameters: tuple[int, int]
    fresh: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def line(self) -> str:
        """In words."""
        (shared, pieces), (carried, parameters) = self.pieces, self.parameters
        modules = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in self.fresh))
        return (
            f"begun from {self.source} ({self.checkpoint}, digest {self.digest[:12]}): carried over {shared} of "
            f"{pieces} pieces and {100 * carried / parameters:.1f} % of the weights, {carried:,} of {parameters:,}"
            + (f"; fresh: {modules}" if modules else "")
        )

    @property
    def needs_statistics(self) -> bool:
        """Whether the normalisation of the features is to be estimated."""
        return any(name.startswith(NORMALIZE) for name in self.fresh)

    def write(self, run: RunDirectory) -> None:
        """Keep it with the run."""
        write_atomically(run.init, (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())


def load_initial(config: TrainConfig) -> Trained | None:
    """The model that a training is to begin from, if there is one."""
    options = config.train
    return load_trained(options.init, options.init_checkpoint, torch.device("cpu")) if options.init else None


def begin_from(initial: Trained, task: Task, config: TrainConfig, tokenizer: Tokenizer) -> Begun:
    """Give a task the weights of a trained model; what has no counterpart keeps its own. Counts begin anew.

    Raises InputError where a tensor of the model has no counterpart, or one of another shape, and is not among
    `train.init_except`. Of the objective, as the CTC head, that is carried over which both have.
    """
    new = {short(name): value for name, value in task.state_dict().items() if value.is_floating_point()}
    old = initial.model.state_dict()
    if initial.config.model.causal != config.model.causal:
        old |= {name: in_place(old[name], config.model.causal) for name in old if name.endswith(OVER_TIME)}
    old |= {f"{OBJECTIVE}{name}": value for name, value in objective_weights(initial).items()}
    rows, excepted = rows_of(initial, config, tokenizer), excepted_of(config, [*new, *old])
    wanted = {name: value for name, value in new.items() if name not in excepted}
    faults = dict(differing(wanted, {name: value for name, value in old.items() if name not in excepted}, rows))
    check(faults, initial, config)
    counts = {name: carry(wanted[name], old[name], row_map(name, rows)) for name in wanted if name not in faults}
    by_piece = rows[BY_PIECE[0]]
    shared = int((by_piece >= 0).sum())
    return Begun(
        config.train.init,
        initial.checkpoint,
        initial.digest,
        (shared, len(by_piece)),
        (sum(counts.values()), sum(value.numel() for value in new.values())),
        [name for name in new if not counts.get(name)],
        [*doubts(initial, config, shared, len(by_piece))],
    )


# The vocabulary


def rows_of(initial: Trained, config: TrainConfig, tokenizer: Tokenizer) -> Rows:
    """Where the rows of the vocabulary's tensors come from."""
    pieces, before = tokenizer.pieces, initial.tokenizer.pieces
    now, then = config.loss.arcs, initial.config.loss.arcs
    outputs = [now.blank_meaning, *pieces[1:], *now.extra_meanings]
    outputs_before = [then.blank_meaning, *before[1:], *then.extra_meanings]
    return {BY_OUTPUT: places(outputs, outputs_before), **dict.fromkeys(BY_PIECE, places(pieces, before))}


def places(wanted: Sequence[str], known: Sequence[str]) -> Tensor:
    """The place in `known` of each of `wanted`, −1 where it is not there."""
    place = {text: index for index, text in enumerate(known)}
    return torch.tensor([place.get(text, -1) for text in wanted])


def row_map(name: str, rows: Rows) -> Tensor | None:
    """The rows of a tensor that has some for the vocabulary."""
    return next((found for beginning, found in rows.items() if name.startswith(beginning)), None)


@torch.no_grad()
def carry(target: Tensor, source: Tensor, rows: Tensor | None) -> int:
    """Copy a tensor, or the rows of it that there are; returns how many values that were."""
    if rows is None:
        target.copy_(source)
        return target.numel()
    known = rows >= 0
    target[known] = source[rows[known]].to(target.device)
    return target[known].numel()


def in_place(weight_D1K: Tensor, causal: bool) -> Tensor:
    """The taps of a centred kernel for one that is to be causal, or the other way: those of frames that both see."""
    moved = weight_D1K.shape[-1] // 2 * (1 if causal else -1)
    return nn.functional.pad(weight_D1K, (moved, -moved))


# What does not fit


def excepted_of(config: TrainConfig, names: Sequence[str]) -> set[str]:
    """The tensors that `train.init_except` names, or their modules, of those of both models."""
    modules = dict.fromkeys(outer for name in names for outer in outwards(name))
    return set(fitting(config.train.init_except, list(modules), "train.init_except"))


def differing(new: Mapping[str, Tensor], old: Mapping[str, Tensor], rows: Rows) -> Iterator[tuple[str, str]]:
    """The tensors that are not in both, or of other shapes, and how they differ."""
    for name in dict.fromkeys([*new, *old]):
        if name not in old:
            yield name, "is not in it"
        elif name not in new:
            yield name, "of it has no place here"
        else:
            first = 0 if row_map(name, rows) is None else 1
            shapes = [list(value.shape[first:]) for value in (old[name], new[name])]
            if shapes[0] != shapes[1]:
                yield name, f"has shape {list(old[name].shape)} in it, and {list(new[name].shape)} here"
            elif first == 0 and name.startswith(OBJECTIVE) and may_be_of_pieces(new[name], rows):
                yield name, "may have rows for other pieces"


def may_be_of_pieces(value: Tensor, rows: Rows) -> bool:
    """Whether a tensor of a loss that is not known here may have a row for each piece, where the pieces are others."""
    by_piece = rows[BY_PIECE[0]]
    same = torch.equal(by_piece, torch.arange(len(by_piece)))
    return not same and len(by_piece) in value.shape


def check(faults: Mapping[str, str], initial: Trained, config: TrainConfig) -> None:
    """Raise InputError for tensors of the model that differ, with the options of its model that do."""
    names = [name for name in faults if not name.startswith(OBJECTIVE)]
    if not names:
        return
    others = (f"model.{name}={shown(before)}" for name, before, _ in other_options(initial, config) if name != "causal")
    options = " ".join(others)  # all but the one that changes no tensor
    more = f" (and {len(names) - 1} more tensors differ)" if len(names) > 1 else ""
    raise InputError(
        f"train.init={config.train.init}: {names[0]} {faults[names[0]]}{more}: "
        + f"it was trained with {options}; give the same, or " * bool(options)
        + f"name what is to be fresh, as in train.init_except=[{names[0]}]"
    )


def other_options(initial: Trained, config: TrainConfig) -> Iterator[tuple[str, object, object]]:
    """The options of the architecture that are not as before: name, before and now."""
    for one in dataclasses.fields(config.model):
        before, now = getattr(initial.config.model, one.name), getattr(config.model, one.name)
        if before != now and f"model.{one.name}" not in IRRELEVANT:
            yield one.name, before, now


def doubts(initial: Trained, config: TrainConfig, shared: int, pieces: int) -> Iterator[str]:
    """What fits, and may be a mistake all the same."""
    for name, before, now in other_options(initial, config):
        if name in UNSEEN:
            yield f"model.{name}={shown(now)}, but {shown(before)} in {config.train.init}: weights compute otherwise"
    for name in ("arcs.name", "topology"):
        before, now = (attrgetter(name)(one.loss) for one in (initial.config, config))
        if before != now:
            yield f"loss.{name}={now}, but {before} in {config.train.init}: its labels will not be where it had them"
    if shared <= 2 < pieces:  # blank and <unk>
        yield f"no piece of the tokenizer is one of {config.train.init}'s: are the transcripts in another case?"
