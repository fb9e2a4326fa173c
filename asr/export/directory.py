"""An export: the files of a directory, written, checked and described, or not there at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path

import torch

from asr import __version__
from asr.config import ExportConfig, GreedyOptions
from asr.data.batch import Batch
from asr.data.features import SAMPLING_RATE
from asr.decode.make import make_search
from asr.decode.stream import chunk_frames
from asr.errors import InputError
from asr.export import onnx_files
from asr.export.parity import HIDDEN_TOLERANCE, MOST_CHANGED, Exported, Parity, Run, compare
from asr.export.readme import readme
from asr.export.sherpa import Form, Part, bpe_vocab, check_model, make_parts, tokens_txt
from asr.files import replace_directory, require_directory, writing
from asr.runs.trained import Trained

DESCRIPTION = "export.json"  # tells a directory that may be replaced from others
PARTS = tuple(field.name for field in fields(Exported))


@dataclass(frozen=True)
class Format:
    """How a part becomes a file, and the file a function again."""

    suffix: str
    write: Callable[[Part, Path], None]
    load: Callable[[Path], Run]


def format_called(name: str) -> Format:
    """The format of this name. Raises InputError where what it needs is not installed."""
    if name == "onnx":
        onnx_files.check_installed()
        return Format(".onnx", onnx_files.write, onnx_files.load)
    programs = import_module("asr.export.torch_programs")
    return Format(".pt2", programs.write, programs.load)


def form_of(config: ExportConfig, trained: Trained) -> Form:
    """How the encoder is exported. Raises InputError where the model cannot be."""
    model = trained.config.model
    chunk = chunk_frames(model.chunk_frames, config.chunk_seconds, config.streaming, trained.model.timing)
    left = model.left_context if config.left_context is None else config.left_context
    if config.streaming and left < 0:
        raise InputError("model.left_context=-1: a stream's caches have a size; give left_context=64 or so, in frames")
    return Form(chunk, left, config.streaming, trained.model.timing)


def check_asked(config: ExportConfig, trained: Trained) -> None:
    """Raise InputError where the format has no int8 weights, or sherpa-onnx would not search as the model wants it."""
    if config.format == "onnx":
        check_model(trained.config.loss, trained.model.timing)
    elif config.int8:
        raise InputError(f"int8=true: format={config.format} has none; use format=onnx, or leave this out")


def export(config: ExportConfig, trained: Trained, read: Iterable[Batch]) -> list[str]:
    """Write all files of an export, and check them on what `read` yields; what was found, in words.

    Raises InputError where one fails the check: then nothing is left behind. int8 weights that nobody asked for are
    left out alone. A model that cannot be exported is refused before anything is read.
    """
    check_asked(config, trained)
    form, kind = form_of(config, trained), format_called(config.format)
    batches = list(read)
    with new_directory(Path(config.output)) as directory:
        for part in make_parts(trained, form):
            kind.write(part, directory / f"{part.name}{kind.suffix}")
        lines = [f"float32: {check(directory, kind, kind.suffix, trained, form, batches).line()}"]
        if config.int8 is not False and config.format == "onnx":
            lines.append(add_int8(directory, kind, trained, form, batches, needed=config.int8 is True))
        (directory / "tokens.txt").write_text(tokens_txt(trained.tokenizer), encoding="utf-8")
        (directory / "bpe.vocab").write_text(bpe_vocab(trained.tokenizer), encoding="utf-8")
        trained.tokenizer.save(directory / "tokenizer")
        (directory / "README.md").write_text(readme(config, trained, form, lines), encoding="utf-8")
        (directory / DESCRIPTION).write_text(
            json.dumps(description(config, trained, form), indent=1) + "\n", encoding="utf-8"
        )
    return lines


def add_int8(
    directory: Path, kind: Format, trained: Trained, form: Form, batches: Sequence[Batch], needed: bool
) -> str:
    """Write files with int8 weights beside the others, and check them; what was found, in words.

    Where they change too much they go, and that is said; needed: or InputError is raised.
    """
    for name in PARTS:
        onnx_files.write_int8(directory / f"{name}.onnx", directory / f"{name}.int8.onnx")
    parity = check(directory, kind, ".int8.onnx", trained, form, batches)
    if parity.errors <= MOST_CHANGED * parity.labels:
        return f"int8: {parity.line()}"
    changed = f"{parity.errors} of {parity.labels} labels, more than {MOST_CHANGED:.0%}"
    if needed:
        raise InputError(f"int8 weights change {changed}: nothing was written; int8=null writes what passes, float32")
    for name in PARTS:
        (directory / f"{name}.int8.onnx").unlink()
    return f"int8: left out, for int8 weights change {changed}"


def check(directory: Path, kind: Format, suffix: str, trained: Trained, form: Form, batches: Sequence[Batch]) -> Parity:
    """Compare files with the model. Raises InputError where that says nothing, or they should be exact and are not."""
    exported = Exported(*(kind.load(directory / f"{name}{suffix}") for name in PARTS))
    options = GreedyOptions(max_symbols_per_frame=1)
    search = make_search(options, trained.model, trained.config.loss, trained.tokenizer)
    parity = compare(exported, trained, search, form, batches)
    if not parity.labels:
        raise InputError(
            f"the model recognises nothing in {parity.utterances} utterances, so the check would say nothing of its "
            "labels: name others with cuts=…, or more of them with utterances=…"
        )
    exact = suffix == kind.suffix
    if exact and (parity.hidden > HIDDEN_TOLERANCE or parity.differing):
        raise InputError(f"the export is not the model ({parity.line()}): nothing was written")
    return parity


@contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """Yields a directory that takes the place of `output` if the block ends well, else goes.

    Raises InputError where `output` holds something that is no export.
    """
    if output.exists() and not (output / DESCRIPTION).is_file() and (output.is_file() or any(output.iterdir())):
        raise InputError(f"output={output}: is there, and no export; name a new directory")
    require_directory(output.absolute().parent)
    temporary = output.absolute().with_name(f".{output.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with writing(output.absolute()):
            temporary.mkdir()
            yield temporary
            replace_directory(temporary, output.absolute())
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def description(config: ExportConfig, trained: Trained, form: Form) -> dict[str, object]:
    """What an export is of."""
    return {
        "version": __version__,
        "torch": torch.__version__,
        "format": config.format,
        "sampling_rate": SAMPLING_RATE,
        "feature_dim": trained.config.model.mel_bins,
        "checkpoint": trained.checkpoint,
        "digest": trained.digest,
        "streaming": form.streaming,
        "chunk_frames": form.chunk,
        "left_context": form.left if form.streaming else None,
        "loss": trained.config.loss.name,
        "topology": trained.config.loss.topology,
    }
