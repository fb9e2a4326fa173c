"""The model card of a package: what the model is, what it was trained on, how well it does, and how it is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asr.config import PackageConfig
from asr.data.features import SAMPLING_RATE
from asr.runs.trained import Trained

USE = """
`PACKAGE` is this directory, or the zip file as it is. In Python, and at a prompt:

```python
import asr
model = asr.load("PACKAGE")
print(model.transcribe("recording.wav").text)
```

```bash
asr transcribe recording.wav run=PACKAGE                          # format=srt: subtitles
asr decode run=PACKAGE cuts=cuts_test.jsonl.gz output=test        # error rates
asr train run=exp/new train.init=PACKAGE …                        # fine-tuning
```
"""

SHERPA = """
```python
import sherpa_onnx
files = {{part: f"exports/{name}/{{part}}.onnx" for part in ("encoder", "decoder", "joiner")}}
files["tokens"] = "exports/{name}/tokens.txt"
recognizer = sherpa_onnx.{kind}Recognizer.from_transducer(**files, feature_dim={bins})
```

`exports/{name}/README.md` has the lines that follow, and what differs there.
"""


@dataclass(frozen=True)
class Score:
    """The lines of `wer.txt` of what was decoded into a run, and the name of its directory.

    others: the checkpoint that was decoded with, where it is not the one that is packed.
    """

    name: str
    lines: list[str]
    others: str = ""


@dataclass(frozen=True)
class Export:
    """An export that goes into a package. format, streaming: as `asr export` was asked for them."""

    name: str
    path: Path
    format: str
    streaming: bool


@dataclass(frozen=True)
class Facts:
    """What a run tells beside its model. utterances: that it was trained on, where there is a record of it.

    trained_with: the version of the program. init: the digest of what it began from.
    """

    scores: list[Score] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    utterances: int | None = None
    trained_with: str | None = None
    init: str | None = None


def card(name: str, config: PackageConfig, trained: Trained, facts: Facts) -> str:
    """In Markdown."""
    parts = [
        f"# {name}\n\nA transducer for speech recognition, of asr-transducer.",
        "## Use\n" + USE.rstrip(),
        "## In sherpa-onnx\n\n" + in_sherpa(facts.exports, trained.config.model.mel_bins).strip(),
        "## Error rates\n\n" + rates(facts.scores),
        "## Training\n\n" + "\n".join(f"- {key}: {value}" for key, value in training(config, trained, facts)),
        "## Model\n\n" + "\n".join(f"- {key}: {value}" for key, value in model(trained)),
        "`sha256sum -c SHA256SUMS` checks the files; whatever reads them does, too.",
    ]
    return "\n\n".join(parts) + "\n"


def in_sherpa(exports: list[Export], bins: int) -> str:
    """How it is run there."""
    usable = [one for one in exports if one.format == "onnx"]
    if not usable:
        return "`asr export run=PACKAGE cuts=cuts_dev.jsonl.gz output=onnx` makes the files, and says how to run them."
    kinds = ((one.name, "Online" if one.streaming else "Offline") for one in usable)
    return "\n".join(SHERPA.format(name=name, kind=kind, bins=bins) for name, kind in kinds)


def rates(scores: list[Score]) -> str:
    """Those of what lies decoded in the run."""
    if not scores:
        return "Nothing was decoded into the run."
    lines = "\n".join(f"{score.name}: {'; '.join(told(score))}" for score in scores)
    return f"As they lay in the directory of the run when it was packed:\n\n```\n{lines}\n```"


def told(score: Score) -> list[str]:
    """Its lines, and that it is of other weights."""
    return [*score.lines, *[f"of other weights than these: {score.others}"] * bool(score.others)]


def training(config: PackageConfig, trained: Trained, facts: Facts) -> Iterator[tuple[str, str]]:
    """What the model was trained on, and how."""
    cuts = ", ".join(Path(path).name for path in trained.config.data.train_cuts)
    count = f", {facts.utterances:,} utterances" if facts.utterances is not None else ""
    yield "Data", config.corpus or f"{cuts}{count}"
    yield "Licence", config.licence or "not told"
    yield "Recipe", "`config.yaml` has every option; its paths are without their directories"
    yield "Loss", f"{trained.config.loss.name}, arcs {trained.config.loss.arcs.name}, {trained.config.loss.topology}"
    yield "Program", f"asr {facts.trained_with}" if facts.trained_with else "of a version that kept no record"
    yield "Weights", f"{trained.checkpoint}, digest `{trained.digest}`"
    if facts.init:
        yield "Begun from", f"{Path(trained.config.train.init).name}, digest `{facts.init}`"


def model(trained: Trained) -> Iterator[tuple[str, str]]:
    """What the model is."""
    options, count = trained.config.model, sum(p.numel() for p in trained.model.parameters())
    sizes = " or ".join(map(str, options.chunk_frames))
    chunks = f"chunks of {sizes} frames" if sizes else "whole utterances"
    yield "Parameters", f"{count:,}, float32"
    yield "Encoder", f"Conformer of width {options.encoder_dim}"
    yield "Layers", f"{options.layers}"
    yield "Subsampling", f"{options.subsampling}"
    yield "Reads", f"{chunks}, filterbanks of {options.mel_bins} bins, from audio of {SAMPLING_RATE} Hz"
    yield "Units", f"{trained.tokenizer.vocab_size} pieces, blank included"
