"""Trained models from run directories and packages, for every command that needs one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr.config import TrainConfig
from asr.config.saved import text_of
from asr.config.schema import from_yaml
from asr.data.contents import QUANTILES
from asr.data.pauses import ANY, Lengths
from asr.data.tokenizer import Tokenizer, load_tokenizer, parse_tokenizer, pieces_digest
from asr.errors import InputError, naming
from asr.files import write_atomically
from asr.models.lora import merged
from asr.models.transducer import Transducer, fill, require_fitting
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.package import CONFIG, MODEL, OBJECTIVE, TOKENIZER, Package, is_package, open_package

EMA = "ema"  # the moving average of the weights, at the last checkpoint
AVERAGE = "average"  # of the last checkpoints
AUTO = "auto"  # whichever of these, and of the best checkpoint, did best in validation
AVERAGES = "averages.json"  # beside the checkpoints: how the averages did, and of which weights they were


@dataclass
class Trained:
    """A model ready to decode with, its tokenizer, its configuration, and which checkpoint it is.

    digest: tells its weights from others of the same names; "" where they are of no checkpoint.
    last: the checkpoint, the last one of several, or the package. lengths: of pieces like the utterances that it was
    trained on.
    """

    model: Transducer
    tokenizer: Tokenizer
    config: TrainConfig
    checkpoint: str
    digest: str = ""
    last: Path = Path()
    lengths: Lengths = ANY


def load_config(run: RunDirectory) -> TrainConfig:
    """The config of a run. Raises InputError where the directory is none, or its config is damaged."""
    if not run.config.is_file():
        raise InputError(
            f"run={run.path}: no config.yaml there, so it is not a run directory of `asr train`, nor a package"
        )
    run.check_config()
    try:
        config = from_yaml(text_of(run.config), "train")
    except InputError as error:
        raise error if str(run.config) in str(error) else InputError(f"{run.config}: {error}") from None
    assert isinstance(config, TrainConfig)
    config.run = str(run.path)  # which may have been moved or copied since
    return config


def piece_lengths(run: RunDirectory, config: TrainConfig) -> Lengths:
    """Those of most of the utterances that a run was trained on; any where it keeps no record of them."""
    try:
        seconds = dict(zip(QUANTILES, json.loads(run.data.read_text(encoding="utf-8"))["data.train_cuts"]["seconds"]))
        return Lengths(seconds[0.05], min(seconds[0.99], config.data.max_duration))
    except (OSError, ValueError, TypeError, KeyError):
        return ANY


def resolve(run: RunDirectory, checkpoint: str) -> str:
    """What `auto` stands for: the average that did best in validation, if it did better than the best checkpoint.

    It is "best" where no average of these very checkpoints was validated, as before a training has ended. Other names
    stand for themselves.
    """
    if checkpoint != AUTO:
        return checkpoint
    state.require_metrics(run.checkpoints)
    chosen = state.best(run.checkpoints)
    rates = {"best": state.metrics_of(chosen)} if chosen else {}
    rates |= {name: metrics for name, metrics in validated_averages(run).items() if state.unit_of(metrics)}
    fair = state.comparable(list(rates.values()))
    ranked = sorted((*state.rank(m), name) for name, m in rates.items() if m in fair)
    return ranked[0][-1] if ranked else "best"


def validated_averages(run: RunDirectory) -> dict[str, dict[str, float]]:
    """The metrics of the averages of the present checkpoints that were validated, by name."""
    path = run.checkpoints / AVERAGES
    try:
        recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {name: one["metrics"] for name, one in recorded.items() if one["weights"] == digest_of(run, name)}
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def record_averages(run: RunDirectory, metrics: dict[str, dict[str, float]]) -> None:
    """Keep how the averages of the present checkpoints did in validation, by name."""
    found = {name: {"weights": digest_of(run, name), "metrics": one} for name, one in metrics.items()}
    write_atomically(run.checkpoints / AVERAGES, (json.dumps(found, indent=1) + "\n").encode())


def chosen_checkpoints(run: RunDirectory, checkpoint: str) -> list[Path]:
    """The checkpoints that are named, not `auto`; several are to be averaged."""
    return select(run.checkpoints, checkpoint, load_config(run).train.average_last)


def digest_of(run: RunDirectory, checkpoint: str) -> str:
    """Tells the weights of these checkpoints from others of the same names, of a run that was trained again."""
    return digest_of_all(chosen_checkpoints(run, checkpoint))


def digest_of_all(paths: Iterable[Path]) -> str:
    """The same, of checkpoints that have been chosen."""
    return hashlib.sha256(b"".join((path / state.SUMS).read_bytes() for path in paths)).hexdigest()


def checkpoint_names(path: str, checkpoint: str) -> list[str]:
    """The names of the checkpoints of a run that `checkpoint` stands for."""
    run = RunDirectory(Path(path))
    checkpoint = resolve(run, checkpoint)
    return names_of(chosen_checkpoints(run, checkpoint), checkpoint)


def names_of(paths: Iterable[Path], checkpoint: str) -> list[str]:
    """The same, of checkpoints that have been chosen."""
    return [f"ema of {path.name}" if checkpoint == EMA else path.name for path in paths]


def checkpoint_digest(path: str, checkpoint: str) -> str:
    """See `digest_of`; of `auto`, what it stands for."""
    run = RunDirectory(Path(path))
    return digest_of(run, resolve(run, checkpoint))


def load_trained(path: str, checkpoint: str, device: torch.device) -> Trained:
    """The model of a run, or of a package. `checkpoint` is best, last, average (of the last ones), ema (the moving
    average that was made in training), auto (see `resolve`) or a checkpoint's name.

    Raises InputError where there is neither, or the checkpoint is missing or damaged.
    """
    if is_package(Path(path)):
        return load_package(open_package(Path(path)), checkpoint, device)
    run = RunDirectory(Path(path))
    config = load_config(run)
    tokenizer = load_tokenizer(run.tokenizer)
    checkpoint = resolve(run, checkpoint)
    if checkpoint == EMA and not config.train.ema:
        raise InputError(f"checkpoint=ema: {path} was trained without a moving average; train with train.ema=0.999")
    paths = select(run.checkpoints, checkpoint, config.train.average_last)
    extra = config.loss.arcs.extra_outputs
    has_lora = config.train.lora.rank > 0
    weights = [load_weights(chosen, checkpoint, tokenizer, extra, has_lora) for chosen in paths]
    model = built(config, tokenizer, weights, paths)
    names = " + ".join(names_of(paths, checkpoint))
    return Trained(
        model.to(device).eval(), tokenizer, config, names, digest_of_all(paths), paths[-1], piece_lengths(run, config)
    )


def load_package(package: Package, checkpoint: str, device: torch.device) -> Trained:
    """The model of a package. Raises InputError where another checkpoint than `auto` is wanted, or it is damaged."""
    if checkpoint != AUTO:
        raise InputError(f"checkpoint={checkpoint}: {package.path} is a package, of one model; leave it out")
    told = package.description
    with naming(str(package.path)):
        config = from_yaml(package.text(CONFIG), "train")
    assert isinstance(config, TrainConfig)
    config.run = str(package.path)
    tokenizer = parse_tokenizer(lambda name: package.read(f"{TOKENIZER}/{name}"), package.path / TOKENIZER)
    weights = package.tensors(MODEL)
    with state.understood(package.path):
        state.require_finite(weights)
    try:
        model = built(config, tokenizer, [weights], [package.path / MODEL])
    except InputError as error:
        raise InputError(
            f"{package.path}: {MODEL} and {CONFIG} do not belong together ({error}): get it again"
        ) from None
    lengths = Lengths(*told["seconds"]) if told["seconds"] else ANY
    return Trained(
        model.to(device).eval(), tokenizer, config, told["checkpoint"], told["digest"], package.path, lengths
    )


def built(
    config: TrainConfig, tokenizer: Tokenizer, weights: Sequence[dict[str, Tensor]], paths: Sequence[Path]
) -> Transducer:
    """The model with the mean of weights. Raises InputError where some are not finite, or another model's."""
    for one, path in zip(weights, paths):
        require_fitting(config.model, one, path)
    extra = config.loss.arcs.extra_outputs
    model = Transducer(config.model, tokenizer.vocab_size, extra)
    for one, path in zip(weights, paths):
        fill(model, one, path)
    model.load_state_dict(state.average(list(weights)))
    return model


def load_weights(
    path: Path, checkpoint: str, tokenizer: Tokenizer, extra_outputs: int = 0, has_lora: bool = False
) -> dict[str, Tensor]:
    """The model's weights in the checkpoint at `path`, or their moving average. extra_outputs: beside the vocabulary.

    What LoRA adds is merged into them. Raises InputError where they were trained with another tokenizer.
    """
    part = EMA if checkpoint == EMA else "model"
    loaded = state.load(path, [part])
    with state.understood(path):
        weights: dict[str, Tensor] = loaded.parts[part]["weights"] if checkpoint == EMA else loaded.parts[part]
        state.require_finite(weights)
        if has_lora:
            weights = merged(weights, path)
        known = loaded.info.get("tokenizer", pieces_digest(tokenizer))  # older checkpoints do not tell
        size = len(weights["joiner.output.weight"]) - extra_outputs
    if known != pieces_digest(tokenizer) or size != tokenizer.vocab_size:
        differs = f"{size} pieces, it has {tokenizer.vocab_size}" if size != tokenizer.vocab_size else "other pieces"
        raise InputError(
            f"{path} was trained with another tokenizer than the run's ({differs}): put back the tokenizer directory"
        )
    return weights


def objective_weights(trained: Trained) -> dict[str, Tensor]:
    """Those of the objective, such as its CTC head, in the last of the checkpoints or in a package."""
    if is_package(trained.last):
        return open_package(trained.last).tensors(OBJECTIVE)
    weights: dict[str, Tensor] = state.load(trained.last, ["objective"]).parts["objective"]
    return weights


def select(directory: Path, checkpoint: str, average_last: int) -> list[Path]:
    """The checkpoints that `checkpoint` names; several are to be averaged."""
    found = state.checkpoints(directory) or state.resumable(directory)
    if not found:
        raise InputError(f"{directory}: no checkpoint yet; train longer, or lower train.save_every")
    if checkpoint in ("last", EMA):
        return found[-1:]
    if checkpoint == AVERAGE:
        return found[-average_last:]
    if checkpoint == "best":
        state.require_metrics(directory)
        return [state.best(directory) or found[-1]]
    if directory / checkpoint in found:
        return [directory / checkpoint]
    raise InputError(
        f"checkpoint={checkpoint}: not in {directory}; choose best, last, average, ema, auto or one of "
        f"{', '.join(p.name for p in found)}"
    )
