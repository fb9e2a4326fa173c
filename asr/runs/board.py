"""What TensorBoard shows of a run, and where: the first group is what one looks at first."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from asr.config.schema import list_options
from asr.options import flatten

# TensorBoard puts groups in the order of their names. Training and validation are apart: they are not of the same data.
OVERVIEW, DELAY, LOSS, LATTICE, SPEED, OPTIMISER, DATA = (
    "1 overview",
    "2 delay",
    "3 loss",
    "4 lattice",
    "5 speed and memory",
    "6 optimiser",
    "7 data",
)
GROUPS = {
    **dict.fromkeys(("loss", "wer", "cer"), OVERVIEW),
    **dict.fromkeys(("delay", "last_delay"), DELAY),
    **dict.fromkeys(("nodes", "kept_nodes", "widened", "unaligned"), LATTICE),
    **dict.fromkeys(
        ("audio_seconds_per_second", "waiting_share", "step_seconds", "step_cpu_seconds", "peak_mb"), SPEED
    ),
    **dict.fromkeys(("lr", "gradient_norm"), OPTIMISER),
    **dict.fromkeys(("epoch", "skipped", "no_loss", "utterances", "words", "characters", "errors"), DATA),
    **dict.fromkeys(("wer_low", "wer_high", "cer_low", "cer_high"), DATA),
}
ALWAYS = "loss.name", "model.encoder_dim", "model.layers", "optim.name", "optim.lr"


def tag(section: str, name: str) -> str:
    """Where a metric is shown. section: "train" or "validation". What has no place of its own is a part of the loss."""
    return f"{GROUPS.get(name, LOSS)}/{section} {name}"


def told(config: Any) -> dict[str, Any]:
    """The options of a run that the HPARAMS tab has columns for: those that are not the program's defaults, and a few
    always; paths and lists have no place in it. config: a dataclass of sections."""
    sections = {one.name: getattr(config, one.name) for one in fields(config)}
    made = {name: type(one)() for name, one in sections.items() if is_dataclass(one) and not isinstance(one, type)}
    default = flatten(asdict(replace(config, **made)))
    files = {name for name, one in list_options(type(config)).items() if one.path} | {"run"}
    flat = flatten(asdict(config))
    options = {name: flat[name] for name in flat.keys() - files if isinstance(flat[name], (bool, int, float, str))}
    return {name: value for name, value in sorted(options.items()) if name in ALWAYS or value != default.get(name)}


def session(config: Any, measure: str) -> tuple[Any, Any, Any]:
    """What the HPARAMS tab reads of a run, whose rates it takes from the curves: the columns, the options, and that it
    has ended. measure: "wer" or "cer"."""
    from torch.utils.tensorboard.summary import hparams

    curves = (tag("validation", measure), tag("validation", "loss"), tag("train", "loss"))
    return hparams(told(config), dict.fromkeys(curves, 0.0))  # type: ignore[no-any-return, no-untyped-call]
