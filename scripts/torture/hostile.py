#!/usr/bin/env python3
"""Files that somebody prepared: none is executed, none leads outside, none takes the machine, and each is refused.

    python scripts/torture/hostile.py [--quick] [NAME ...]

Each case gives a command, or the library, one such file: a manifest, tar file, checkpoint, package, config, tokenizer,
transcript or file name. It runs in a process of its own with 2 GB of memory and 10 s. What it opens is watched: a case
fails where a command ran, where anything outside of its directory was read or written, or where it ends in anything
but an error of one line, or the right result. --quick: all of them, in one process, without these limits.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import traceback
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

MEMORY_BYTES, SECONDS = 2 * 2**30, 10
# What asks for the version of this program, and what audioread looks for a decoder with.
PROBES = re.compile(r"'git'|'-version'|ldconfig|-lAudioToolbox")
SECRET = "SECRET-7f3a"
ESCAPE = "\x1b[2J\x1b]0;owned\x07"


@dataclass
class World:
    """Where a case runs. home: its directory. outside: one that is not its business. base: sound files."""

    home: Path
    outside: Path
    base: Path

    @property
    def evil(self) -> str:
        """A command that leaves a trace."""
        return f"touch {self.canary}"

    @property
    def canary(self) -> Path:
        """The trace."""
        return self.home / "EXECUTED"

    def rows(self) -> list[dict[str, Any]]:
        """The rows of a sound manifest."""
        return [json.loads(line) for line in (self.base / "cuts.jsonl").read_text().splitlines()]

    def manifest(self, *rows: dict[str, Any], name: str = "cuts.jsonl") -> str:
        """Write a manifest."""
        (self.home / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(self.home / name)

    def run(self) -> Path:
        """A copy of a sound run."""
        return Path(shutil.copytree(self.base / "run", self.home / "run"))


Case = Callable[[World], None]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Register a case."""

    def add(function: Case) -> Case:
        CASES[name] = function
        return function

    return add


class NotRefused(AssertionError):
    """A case came to an end that it must not."""


# What is sound


def make_base(home: Path) -> Path:
    """A manifest of four utterances, a tokenizer, a run of one step and a package."""
    from asr.config import ModelOptions, PackageConfig, PrunedLossOptions, TrainConfig
    from asr.config.schema import to_yaml
    from asr.data.tokenizer import pieces_digest, train_tokenizer
    from asr.runs import state
    from asr.runs.directory import RunDirectory
    from asr.runs.pack import pack
    from asr.runs.trained import load_trained
    from asr.train.task import make_task

    rows = []
    for number in range(4):
        path = home / f"u{number}.wav"
        write_wav(path)
        rows.append(row(f"u{number}", str(path)))
    (home / "cuts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    tokenizer = train_tokenizer(["ONE TWO"], "char")
    tokenizer.save(home / "tokenizer")
    run = RunDirectory(home / "run")
    model = ModelOptions(mel_bins=8, subsampling_channels=4, encoder_dim=8, layers=1, heads=2, feedforward_dim=8)
    model = replace(model, kernel_size=3, predictor_dim=4, joiner_dim=8)
    config = TrainConfig(run=str(run.path), model=model, loss=PrunedLossOptions(prune_range=3))
    task = make_task(config, tokenizer.vocab_size)
    tokenizer.save(run.tokenizer)
    run.config.write_text(to_yaml(config))
    parts = {"model": task.model.state_dict(), "objective": task.objective.state_dict()}
    state.save(run.checkpoints, state.Checkpoint(1, {}, parts, {"tokenizer": pieces_digest(tokenizer)}))
    trained = load_trained(str(run.path), "auto", "cpu")  # type: ignore[arg-type]
    for output in ("package", "package.zip"):
        pack(PackageConfig(run=str(run.path), output=str(home / output)), trained)
    return home


def write_wav(path: Path, seconds: float = 1.0) -> None:
    """Noise at 16 kHz."""
    import numpy as np

    samples = np.random.default_rng(0).integers(-3000, 3000, round(16000 * seconds), dtype=np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())


def recording(name: str, source: str, kind: str = "file") -> dict[str, Any]:
    """A recording of a second, as JSON has it."""
    sources = [{"type": kind, "channels": [0], "source": source}]
    return {"id": name, "sources": sources, "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}


def row(name: str, source: str, kind: str = "file", text: str = "ONE TWO") -> dict[str, Any]:
    """A row of a manifest of cuts."""
    said = {"id": name, "recording_id": name, "start": 0.0, "duration": 1.0, "channel": 0, "text": text}
    whole = {"id": name, "start": 0.0, "duration": 1.0, "channel": 0, "supervisions": [said], "type": "MonoCut"}
    return whole | {"recording": recording(name, source, kind)}


def stored(kind: str, path: str, key: str = "a.npy") -> dict[str, Any]:
    """Stored features, as JSON has them."""
    numbers = {"num_frames": 100, "num_features": 8, "frame_shift": 0.01, "sampling_rate": 16000, "start": 0}
    place = {"storage_type": kind, "storage_path": path, "storage_key": key, "channels": 0}
    return {"type": "kaldi-fbank", "duration": 1.0, **numbers, **place}


# What commands do with it


def command(*words: str) -> tuple[int, str, str]:
    """Status, output and messages of a command line."""
    from asr.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(words))
    return status, out.getvalue(), err.getvalue()


def refused(*words: str) -> str:
    """The one line that a command is refused with."""
    status, _, err = command(*words)
    if status != 2 or len(err.strip().splitlines()) != 1 or "Traceback" in err:
        raise NotRefused(f"status {status}: {err}")
    return err


def train(world: World, *words: str) -> str:
    """The line that a training is refused with."""
    data = [f"data.train_cuts=[{world.base}/cuts.jsonl]", f"data.valid_cuts=[{world.base}/cuts.jsonl]"]
    return refused("train", f"run={world.home}/new", *data, f"data.tokenizer={world.base}/tokenizer", *words)


def opened(world: World, *rows: dict[str, Any]) -> None:
    """Read the samples, or features, of each row of a manifest, as every command does."""
    from asr.data.features import load_features, make_fbank
    from asr.data.manifest import open_cuts

    for cut in open_cuts([world.manifest(*rows)]):
        load_features(cut, make_fbank(8))
    raise NotRefused("was read")


def loaded(path: Path) -> None:
    """Load a run or a package."""
    import asr

    asr.load(path, device="cpu")
    raise NotRefused("was loaded")


# Manifests


def of_manifest(name: str, change: Callable[[World], dict[str, Any]]) -> None:
    """A case of a manifest whose second row is changed."""
    CASES[f"manifest: {name}"] = lambda world: opened(world, world.rows()[0], change(world))


of_manifest("a source that is a command", lambda w: row("x", w.evil, "command"))
of_manifest("a source that is fetched", lambda w: row("x", "http://127.0.0.1:9/x.wav", "url"))
of_manifest("a source that is fetched by a command", lambda w: row("x", f"pipe:{w.evil}", "url"))
of_manifest("a file called pipe:", lambda w: row("x", f"pipe:{w.evil}"))
of_manifest("a file called http:", lambda w: row("x", "http://127.0.0.1:9/x.wav"))
of_manifest("a file called -", lambda w: row("x", "-"))
of_manifest("a file with NUL in its name", lambda w: row("x", "a\0b.wav"))
of_manifest("a device", lambda w: row("x", "/dev/zero"))
of_manifest(
    "features from a command", lambda w: row("x", "x.wav") | {"features": stored("numpy_files", f"pipe:{w.evil};")}
)
of_manifest(
    "lilcom from a command", lambda w: row("x", "x.wav") | {"features": stored("lilcom_files", f"pipe:{w.evil};")}
)
of_manifest(
    "lilcom by the network", lambda w: row("x", "x.wav") | {"features": stored("lilcom_url", f"pipe:{w.evil};")}
)
of_manifest("Kaldi's pipe", lambda w: row("x", "x.wav") | {"features": stored("kaldiio", f"ark:{w.evil} |")})
of_manifest(
    "features whose key is a command",
    lambda w: row("x", "x.wav") | {"features": stored("numpy_files", "", f"pipe:{w.evil}")},
)
of_manifest("an id that clears the screen", lambda w: row(f"x{ESCAPE}", str(w.base / "u0.wav")))
of_manifest("a transcript of half a character", lambda w: row("x", str(w.base / "u0.wav"), text="\ud83d"))


def room(world: World) -> dict[str, Any]:
    """A transform whose room is a command."""
    kwargs = {"rir": recording("r", world.evil, "command"), "normalize_output": True}
    return {"name": "ReverbWithImpulseResponse", "kwargs": kwargs}


def with_recording(world: World, **fields: Any) -> dict[str, Any]:
    """A row whose recording has other fields."""
    whole = row("x", str(world.base / "u0.wav"))
    return whole | {"recording": whole["recording"] | fields}


of_manifest("a room that is a command", lambda w: with_recording(w, transforms=[room(w)]))
of_manifest(
    "a field of one's own that is a command",
    lambda w: row("x", str(w.base / "u0.wav")) | {"custom": {"x": recording("r", w.evil, "command")}},
)
of_manifest(
    "a mixed cut of a command",
    lambda w: {
        "id": "m",
        "type": "MixedCut",
        "tracks": [{"cut": row("x", w.evil, "command"), "type": "MonoCut", "offset": 0}],
    },
)
of_manifest(
    "a mixed cut in a room",
    lambda w: {
        "id": "m",
        "type": "MixedCut",
        "tracks": [{"cut": row("x", str(w.base / "u0.wav")), "type": "MonoCut", "offset": 0}],
        "transforms": [room(w)],
    },
)


@case("manifest: objects in objects")
def _deep(world: World) -> None:
    nested: Any = {}
    for _ in range(900):
        nested = {"a": nested}
    opened(world, row("x", "x.wav") | {"custom": nested})


@case("manifest: gigabytes in a line")
def _bomb(world: World) -> None:
    path = world.home / "cuts.jsonl.gz"
    with untimed(), gzip.open(path, "wb", 1) as file:
        for _ in range(300):
            file.write(b" " * 10**7)
    train(world, f"data.train_cuts=[{path}]")
    refused("tokenizer", f"cuts=[{path}]", f"output={world.home}/t", "kind=char")
    raise_refused()


@case("manifest: called pipe:")
def _piped_name(world: World) -> None:
    with in_directory(world.home):
        for words in (["tokenizer", f"cuts=['pipe:{world.evil}']", "output=t", "kind=char"],):
            refused(*words)
    raise_refused()


@case("manifest: noise that is a command")
def _noise(world: World) -> None:
    train(world, f"data.noise.cuts=[{world.manifest(row('x', world.evil, 'command'))}]")
    raise_refused()


@case("manifest: of Lhotse's, in Python")
def _python(world: World) -> None:
    from lhotse import CutSet

    from asr.data.features import load_samples

    for cut in CutSet.from_file(world.manifest(row("x", world.evil, "command"))):
        load_samples(cut)


@case("manifest: files outside of data.root")
def _root(world: World) -> None:
    from asr.data.manifest import open_cuts

    inside = world.home / "root"
    inside.mkdir()
    (inside / "link.wav").symlink_to(world.outside / "secret.wav")
    for name in (f"{inside}/../../outside/secret.wav", str(world.outside / "secret.wav")):
        must_refuse(lambda name=name: open_cuts([world.manifest(row("x", name))], str(inside)))
    said = train(world, f"data.root={inside}", f"data.train_cuts=[{world.manifest(row('x', f'{inside}/link.wav'))}]")
    assert "outside of data.root" in said, said
    raise_refused()


@case("corpus: Kaldi's pipe")
def _kaldi(world: World) -> None:
    (world.home / "wav.scp").write_text(f"u1 {world.evil} |\n")
    (world.home / "text").write_text("u1 ONE\n")
    refused_or_partly("manifest", f"input={world.home}", f"output={world.home}/cuts.jsonl.gz")


@case("corpus: a manifest of commands")
def _lhotse(world: World) -> None:
    manifest = world.manifest(row("x", world.evil, "command"))
    refused_or_partly("manifest", f"input={manifest}", f"output={world.home}/cuts.jsonl.gz")


@case("corpus: an id that leads outside")
def _id(world: World) -> None:
    cuts = world.manifest(row("../../outside/x", str(world.base / "u0.wav")))
    status, _, err = command(
        "features", f"cuts={cuts}", f"output={world.home}/f.jsonl.gz", f"storage={world.home}/f", "jobs=1"
    )
    assert status == 0, err


@case("file name: a command for sph2pipe")
def _sph(world: World) -> None:
    path = world.home / "a;touch EXECUTED;.sph"
    path.write_bytes(b"NIST_1A\n   1024\nno sphere")
    with in_directory(world.home):
        opened(world, row("x", str(path)))


@case("words: a manifest called pipe:")
def _words(world: World) -> None:
    with in_directory(world.home):
        Path("pipe:touch EXECUTED;.jsonl").write_text("{}\n")
        refused("attach", "words='pipe:touch EXECUTED;.jsonl'", f"cuts={world.base}/cuts.jsonl", "output=o.jsonl.gz")
    raise_refused()


# Shar


def shar(world: World, change: Callable[[tarfile.TarFile], None], mode: str = "w", name: str = "shar") -> None:
    """Read a directory of Shar whose tar file is somebody's."""
    directory = world.home / name
    directory.mkdir()
    held = row("x", "", "shar")
    with gzip.open(directory / "cuts.000000.jsonl.gz", "wt") as file:
        file.write(json.dumps(held) + "\n")
    with untimed(), tarfile.open(directory / "recording.000000.tar", mode) as tar:  # type: ignore[call-overload]
        change(tar)
    from asr.data.features import load_samples
    from asr.data.manifest import open_cuts

    with in_directory(world.home):
        for cut in open_cuts([name]):
            load_samples(cut)


def member(tar: tarfile.TarFile, name: str, content: bytes, **fields: Any) -> None:
    """Add a file to a tar file."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


@case("shar: a room that is a command")
def _shar_room(world: World) -> None:
    def change(tar: tarfile.TarFile) -> None:
        member(tar, "x.wav", (world.base / "u0.wav").read_bytes())
        told = recording("x", "", "shar") | {"transforms": [room(world)]}
        member(tar, "x.json", json.dumps(told).encode())

    shar(world, change)


@case("shar: a directory called pipe:")
def _shar_name(world: World) -> None:
    def change(tar: tarfile.TarFile) -> None:
        member(tar, "x.wav", (world.base / "u0.wav").read_bytes())
        member(tar, "x.json", json.dumps(recording("x", "", "shar")).encode())

    shar(world, change, name="pipe:touch EXECUTED;")


@case("shar: links and devices")
def _shar_link(world: World) -> None:
    def change(tar: tarfile.TarFile) -> None:
        member(tar, "x.wav", b"", type=tarfile.SYMTYPE, linkname=str(world.outside / "secret.wav"))
        member(tar, "x.json", json.dumps(recording("x", "", "shar")).encode())

    shar(world, change)


@case("shar: gigabytes that are compressed")
def _shar_bomb(world: World) -> None:
    def change(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("x.wav")
        info.size = 3 * 10**9
        tar.addfile(info, Zeros(info.size))

    shar(world, change, "w:gz")


class Zeros(io.RawIOBase):
    """A file of zeros."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = min(self.left, size if size >= 0 else self.left)
        self.left -= size
        return bytes(size)


# Checkpoints


def checkpoint(world: World) -> Path:
    """The checkpoint of a copy of the run."""
    return world.run() / "checkpoints" / "step-00000001"


def resum(directory: Path) -> None:
    """Give the files of a checkpoint the right sums."""
    lines = []
    for path in sorted(directory.iterdir()):
        if path.name != "SHA256SUMS":
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (directory / "SHA256SUMS").write_text("".join(lines))


def of_state(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """A case of a checkpoint whose state.json is another, with the right sum."""

    def run(world: World) -> None:
        path = checkpoint(world)
        changed = change(json.loads((path / "state.json").read_text()))
        (path / "state.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
        resum(path)
        loaded(world.home / "run")

    CASES[f"checkpoint: {name}"] = run


of_state("a list for a state", lambda state: [state])
of_state("no parts", lambda state: {key: value for key, value in state.items() if key != "parts"})
of_state("a step that is text", lambda state: state | {"step": "1"})
of_state("another step", lambda state: state | {"step": 10**30})
of_state("metrics that are text", lambda state: state | {"metrics": {"wer": "low"}})
of_state("tensors that are not there", lambda state: state | {"parts": {"model": {"dict": [["a", {"tensor": "b"}]]}}})
of_state("lists in lists", lambda state: "[" * 100_000)
of_state(
    "a part outside", lambda state: state | {"parts": {**state["parts"], "../../../../outside/secret": {"dict": []}}}
)
of_state("a tensor that is a list", lambda state: state | {"parts": {"model": [1, 2]}})


def of_tensors(name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """A case of a checkpoint with other weights, and the right sums."""

    def run(world: World) -> None:
        from safetensors.torch import load, save

        path = checkpoint(world)
        changed = change(load((path / "model.safetensors").read_bytes()))
        (path / "model.safetensors").write_bytes(changed if isinstance(changed, bytes) else save(changed))
        resum(path)
        loaded(world.home / "run")

    CASES[f"checkpoint: {name}"] = run


class Executed:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch EXECUTED",)


of_tensors("a pickle", lambda weights: pickle.dumps(Executed()))
of_tensors("a header of 2^60 bytes", lambda weights: (2**60).to_bytes(8, "little") + b"{}")
of_tensors(
    "weights that are NaN",
    lambda weights: {
        name: value * float("nan") if value.is_floating_point() else value for name, value in weights.items()
    },
)
of_tensors(
    "weights of another shape",
    lambda weights: {name: value.new_zeros([*value.shape, 2]) for name, value in weights.items()},
)
of_tensors("weights that are not there", lambda weights: {"x": next(iter(weights.values()))})


@case("checkpoint: sums that lead outside")
def _sums(world: World) -> None:
    path = checkpoint(world)
    for name in (str(world.outside / "secret.wav"), "../../../../outside/secret.wav", "/dev/zero"):
        with (path / "SHA256SUMS").open("a") as file:
            file.write(f"{'0' * 64}  {name}\n")
    loaded(world.home / "run")


@case("checkpoint: a file without end")
def _endless(world: World) -> None:
    path = checkpoint(world)
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").symlink_to("/dev/zero")
    loaded(world.home / "run")


@case("checkpoint: a pipe that nobody writes to")
def _pipe(world: World) -> None:
    path = checkpoint(world)
    (path / "state.json").unlink()
    os.mkfifo(path / "state.json")
    loaded(world.home / "run")


@case("checkpoint: a directory for a file")
def _directory(world: World) -> None:
    path = checkpoint(world)
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").mkdir()
    loaded(world.home / "run")


# Configs


def of_config(name: str, change: Callable[[str], str | bytes]) -> None:
    """A case of a run whose config is another: loaded, gone on with, and compared."""

    def run(world: World) -> None:
        run = world.run()
        changed = change((run / "config.yaml").read_text())
        (run / "config.yaml").write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        os.environ["ASR_TORTURE"] = SECRET
        data = [f"data.train_cuts=[{world.base}/cuts.jsonl]", f"data.valid_cuts=[{world.base}/cuts.jsonl]"]
        assert SECRET not in refused("train", f"run={run}", *data)
        status, out, err = command("compare", str(run))  # which needs no more of a config than its options
        assert status in (0, 2), err
        assert "Traceback" not in err, err
        assert SECRET not in out + err, out
        loaded(run)

    CASES[f"config: {name}"] = run


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{y}: &{y} [{','.join([f'*{x}'] * 9)}]\n" for x, y in zip("abcdefgh", "bcdefghi")
)
of_config("a bomb", lambda text: BOMB + text)
of_config("a section in itself", lambda text: "a: &a [*a]\n" + text)
of_config("lists in lists", lambda text: "run: " + "[" * 100_000)
of_config("not UTF-8", lambda text: b"# \xff\n" + text.encode())
of_config("the environment", lambda text: text.replace("unit: auto", "unit: ${oc.env:ASR_TORTURE}"))
of_config(
    "the environment, in a path",
    lambda text: text.replace("tokenizer: ''", "tokenizer: '${oc.env:ASR_TORTURE}'"),
)
of_config("an object of Python", lambda text: text + "x: !!python/object/apply:os.system ['touch EXECUTED']\n")
of_config("_target_", lambda text: text + "_target_: os.system\ncommand: touch EXECUTED\n")
of_config(
    "directions for Hydra",
    lambda text: text + "hydra: {callbacks: {x: {_target_: os.system, command: touch EXECUTED}}}\n",
)
of_config("defaults of its own", lambda text: "defaults: [/hydra/launcher: evil]\n" + text)
of_config("a number of 5,000 digits", lambda text: text.replace("seed: 0", f"seed: {'9' * 5000}"))
of_config(
    "a model of terabytes",
    lambda text: text.replace("encoder_dim: 8", "encoder_dim: 16384").replace("layers: 1", "layers: 200"),
)
of_config(
    "another model than its weights",
    lambda text: text.replace("feedforward_dim: 8", "feedforward_dim: 65536"),
)


@case("config: a pipe that nobody writes to")
def _config_pipe(world: World) -> None:
    run = world.run()
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")
    loaded(run)


def of_directory(name: str, files: dict[str, str], *words: str) -> None:
    """A case of a config directory, with a training and with a sweep."""

    def run(world: World) -> None:
        for path, text in files.items():
            (world.home / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
            (world.home / "conf" / path).write_text(text.replace("EXECUTED", str(world.canary)))
        place = ["--config-dir", f"{world.home}/conf", "--config-name", "evil", "train.steps=1"]
        data = [f"data.train_cuts=[{world.home}/none]", f"data.valid_cuts=[{world.home}/none]", "data.tokenizer=none"]
        for more in ([f"run={world.home}/new", *words], [f"run={world.home}/new", "optim.lr=1e-3,2e-3", "--multirun"]):
            refused("train", *place, *data, *more)
        raise_refused()

    CASES[f"config directory: {name}"] = run


OVER = "defaults: [train, _self_]\n"
CALL = "{x: {_target_: os.system, command: touch EXECUTED}}"
of_directory("callbacks", {"evil.yaml": f"{OVER}hydra: {{callbacks: {CALL}}}\n"})
of_directory(
    "a launcher", {"evil.yaml": f"{OVER}hydra: {{launcher: {{_target_: os.system, command: touch EXECUTED}}}}\n"}
)
of_directory(
    "a sweeper", {"evil.yaml": f"{OVER}hydra: {{sweeper: {{_target_: os.system, command: touch EXECUTED}}}}\n"}
)
of_directory(
    "a logger",
    {
        "evil.yaml": OVER
        + "hydra: {hydra_logging: {version: 1, formatters: {x: {(): os.system, command: touch EXECUTED}}}}\n"
    },
)
of_directory(
    "a launcher in a group",
    {
        "evil.yaml": "defaults: [train, {override hydra/launcher: evil}, _self_]\n",
        "hydra/launcher/evil.yaml": "_target_: os.system\ncommand: touch EXECUTED\n",
    },
)
of_directory("a bomb", {"evil.yaml": OVER + BOMB})
of_directory("a bomb in a group", {"evil.yaml": OVER, "model/evil.yaml": BOMB}, "model=evil")
of_directory("_target_", {"evil.yaml": OVER + "model: {_target_: os.system, command: touch EXECUTED}\n"})


# Packages


def repacked(world: World, change: Callable[[dict[str, bytes]], None], level: int = zipfile.ZIP_DEFLATED) -> None:
    """Load a zip file of other files than the package has, with the right sums."""
    with zipfile.ZipFile(world.base / "package.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name != "SHA256SUMS"}
    change(files)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    with untimed(), zipfile.ZipFile(world.home / "x.zip", "w", level) as archive:
        for name, data in {**files, "SHA256SUMS": files.get("SHA256SUMS", sums.encode())}.items():
            archive.writestr(name, data)
    loaded(world.home / "x.zip")


def of_package(name: str, file: str, content: Callable[[bytes], bytes]) -> None:
    """A case of a package with another file."""
    CASES[f"package: {name}"] = lambda world: repacked(
        world, lambda files: files.update({file: content(files.get(file, b""))})
    )


of_package("a config of gigabytes", "config.yaml", lambda _: b" " * 2**25)
of_package("weights of gigabytes", "model.safetensors", lambda _: bytes(2**29))
of_package("a pickle for weights", "model.safetensors", lambda _: pickle.dumps(Executed()))
of_package(
    "a config with the environment", "config.yaml", lambda text: text.replace(b"unit: auto", b"unit: ${oc.env:HOME}")
)
of_package("a config that is not UTF-8", "config.yaml", lambda text: b"# \xff\n" + text)
of_package("a description that is a list", "package.json", lambda _: b"[]")
of_package("a description without parts", "package.json", lambda _: b"{}")
of_package("a form that is text", "package.json", lambda text: text.replace(b'"form": 1', b'"form": "x"'))
of_package(
    "lengths that are text", "package.json", lambda text: text.replace(b'"seconds": null', b'"seconds": ["a", "b"]')
)
of_package("sums that are no text", "SHA256SUMS", lambda _: b"\xff\xfe")


@case("package: members that lead outside")
def _members(world: World) -> None:
    with zipfile.ZipFile(world.home / "x.zip", "w") as archive:
        for name in ("package.json", "../outside/package.json", "../../outside/x"):
            archive.writestr(name, "{}")
    loaded(world.home / "x.zip")


@case("package: a file without end")
def _package_endless(world: World) -> None:
    package = Path(shutil.copytree(world.base / "package", world.home / "package"))
    (package / "model.safetensors").unlink()
    (package / "model.safetensors").symlink_to("/dev/zero")
    loaded(package)


# Tokenizers


def of_tokenizer(name: str, change: Callable[[bytes], bytes]) -> None:
    """A case of a tokenizer of another model, with the right sum."""

    def run(world: World) -> None:
        from asr.data.tokenizer import load_tokenizer

        place = Path(shutil.copytree(world.base / "tokenizer", world.home / "tokenizer"))
        model = change((place / "tokenizer.model").read_bytes())
        (place / "tokenizer.model").write_bytes(model)
        told = json.loads((place / "tokenizer.json").read_text()) | {"sha256": hashlib.sha256(model).hexdigest()}
        (place / "tokenizer.json").write_text(json.dumps(told))
        load_tokenizer(place)
        raise NotRefused("was loaded")

    CASES[f"tokenizer: {name}"] = run


of_tokenizer("a piece that is no text", lambda model: model.replace(b"N", b"\xff"))
of_tokenizer("half of it", lambda model: model[: len(model) // 2])
of_tokenizer("nothing", lambda model: b"")
of_tokenizer("a pickle", lambda model: pickle.dumps(Executed()))


# Names and overrides


@case("file names: output=x.wav among *.wav")
def _override(world: World) -> None:
    with in_directory(world.home):
        for name in ("output=x.wav", "--output=y.wav", "--help", "-m", "a.wav"):
            write_wav(Path(name))
        files = sorted(path.name for path in world.home.iterdir())
        status, out, err = command("transcribe", *files, f"run={world.base}/run", "device=cpu")
        assert (status, sorted(path.name for path in world.home.iterdir())) == (0, files), err
        assert all(f"{name}\t" in out for name in files), out


@case("file names: escapes, and bytes that are no text")
def _names(world: World) -> None:
    with in_directory(world.home):
        names = [f"a{ESCAPE}.wav", os.fsdecode(b"b\xff.wav"), "c\n.wav"]
        for name in names:
            write_wav(Path(name))
        for form in ("json", "ctm"):
            shown = Terminal()
            words = ["transcribe", *names, f"run={world.base}/run", "device=cpu", f"format={form}"]
            from asr.cli.main import main

            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                assert main(words) == 0, shown.getvalue()
                assert main([*words, f"output={world.home}/out"]) == 0, shown.getvalue()
            assert "\x1b" not in shown.getvalue()
            shown.getvalue().encode()
        corpus = world.home / "corpus"
        corpus.mkdir()
        for name in names:
            shutil.copy(name, corpus / name)
            (corpus / name).with_suffix(".txt").write_text("ONE")
        status, _, err = command("manifest", f"input={corpus}", f"output={world.home}/cuts.jsonl.gz")
        assert status in (0, 1, 2), err
        assert "Traceback" not in err, err


class Terminal(io.StringIO):
    """A terminal, or so it says."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@case("transcripts: a terminal, a log and a page obey none")
def _transcripts(world: World) -> None:
    from asr.console import Visible, VisibleLines
    from asr.runs.directory import RunDirectory

    shown = Terminal()
    print(f"ONE {ESCAPE}\u202e", file=Visible(shown))  # type: ignore[arg-type]
    assert shown.getvalue().isascii(), shown.getvalue()
    assert "\x1b" not in shown.getvalue()
    import logging

    record = logging.LogRecord("asr", logging.INFO, "", 0, "skipped %s", (f"x\n2026 INFO done{ESCAPE}",), None)
    assert len(VisibleLines("%(message)s").format(record).splitlines()) == 1
    run = RunDirectory(world.home / "new")
    run.open_logs(0)
    run.write_examples(1, ["<script>alert(1)</script>", "![x](http://127.0.0.1:9/x)"])
    run.close()
    written = next((world.home / "new" / "tensorboard").iterdir()).read_bytes()
    assert b"    <script>" in written, "not a block of code"
    assert b"    ![x]" in written, "not a block of code"


@case("report: a run whose record names manifests elsewhere")
def _report(world: World) -> None:
    from asr.score.record import Record
    from asr.score.report import write_report
    from asr.score.wer import Utterance

    run = world.run()
    names = [str(world.outside / "secret.wav"), "../outside/secret.wav", "", "..", "a\0b", "x" * 5000]
    for number, name in enumerate(names):
        decoded = run / f"decode_{number}"
        record = Record("", "run", "", "", name, False, "cpu", {})
        write_report(decoded, [Utterance("u0", "ONE", "TWO")], "x", record=record)
    with in_directory(world.home):
        status, _, err = command("report", str(run), "output=report.html", "device=cpu")
    assert (status, err) == (0, ""), err
    assert "data:audio" not in (world.home / "report.html").read_text()


@case("transcripts: one that clears the screen is trained on")
def _unknown(world: World) -> None:
    cuts = world.manifest(row("x", str(world.base / "u0.wav"), text=f"ONE{ESCAPE}"))
    said = train(world, f"data.train_cuts=[{cuts}]", "train.device=cpu", "model=debug", "data=debug")
    assert "\x1b" not in said, said
    raise_refused()


# Recipes


@case("recipe: file ids that lead outside")
def _fileids(world: World) -> None:
    prepare = recipe("an4")
    for name in ("../../../outside/x", "/etc/x", "a/../../x"):
        (world.home / "etc").mkdir(exist_ok=True)
        (world.home / "etc" / "an4_train.fileids").write_text(f"{name}\n")
        (world.home / "etc" / "an4_train.transcription").write_text("ONE (x)\n")
        must_refuse(lambda: prepare.read_part(world.home, "train"))
    raise_refused()


def of_archive(name: str, change: Callable[[World, tarfile.TarFile], None]) -> None:
    """A case of an archive of a corpus."""

    def run(world: World) -> None:
        from asr.data.corpus import extract

        with tarfile.open(world.home / "x.tar", "w") as tar:
            change(world, tar)
        extract(world.home / "x.tar", world.home / "x")
        raise NotRefused("was unpacked")

    CASES[f"archive: {name}"] = run


of_archive("a member outside", lambda world, tar: member(tar, "../outside/x", b"x"))
of_archive("a member at the root", lambda world, tar: member(tar, "a/../../../x", b"x"))
of_archive(
    "a link outside", lambda world, tar: member(tar, "x", b"", type=tarfile.SYMTYPE, linkname=str(world.outside))
)
of_archive("a device", lambda world, tar: member(tar, "x", b"", type=tarfile.CHRTYPE))


@case("archive: another than was published")
def _download(world: World) -> None:
    from asr.data.corpus import fetch

    (world.home / "x.tar.gz").write_bytes(b"x")
    for checksum in ("0" * 64, "0" * 32):
        must_refuse(lambda checksum=checksum: fetch((world.home / "x.tar.gz").as_uri(), world.home / "new", checksum))
    raise_refused()


def recipe(name: str) -> Any:
    """The preparation of a recipe."""
    import importlib.util

    path = Path(__file__).resolve().parents[2] / "recipes" / name / "local" / "prepare.py"
    spec = importlib.util.spec_from_file_location(f"{name}_prepare", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# How a case goes


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """Within this a file is made, which is not what has 10 s."""
    left = signal.alarm(0)
    yield
    if left:
        signal.alarm(SECONDS)


def must_refuse(work: Callable[[], Any]) -> None:
    """Raise NotRefused where something is not an error of the input."""
    from asr.errors import InputError

    try:
        work()
    except InputError:
        return
    raise NotRefused("was not refused")


def refused_or_partly(*words: str) -> None:
    """A command that names a row at fault, and has nothing left."""
    status, _, err = command(*words)
    assert status == 2, err
    assert "Traceback" not in err, err
    raise_refused()


def raise_refused() -> None:
    """The end of a case all of whose commands were refused."""
    from asr.errors import InputError

    raise InputError("refused")


@contextlib.contextmanager
def in_directory(path: Path) -> Iterator[None]:
    """Within this, the working directory is another."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


class Watch:
    """What Python opens, starts or connects to while `watched` is a world."""

    def __init__(self) -> None:
        self.watched: World | None = None
        self.found: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what must not be."""
        if self.watched is None:
            return
        if event in (
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "subprocess.Popen",
            "socket.connect",
            "socket.getaddrinfo",
        ):
            if not PROBES.search(str(arguments[:2])):
                self.found.append(f"{event} {arguments[:2]}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(str(self.watched.outside)) or path == "/dev/zero":
                self.found.append(f"opened {path}")


_watch: list[Watch] = []


def faults_of(name: str, base: Path) -> list[str]:
    """What goes wrong in a case; nothing where it is refused, or shown to be harmless."""
    from asr.errors import InputError

    _watch[:] = _watch or [Watch()]
    with tempfile.TemporaryDirectory() as place:
        world = World(Path(place) / "home", Path(place) / "outside", base)
        world.home.mkdir()
        world.outside.mkdir()
        write_wav(world.outside / "secret.wav")
        before = sorted(path.name for path in world.outside.iterdir())
        watch = _watch[0]
        watch.watched, watch.found = world, []
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                CASES[name](world)
            end = []
        except InputError as error:
            end = [] if len(str(error).splitlines()) == 1 else [f"not one line: {error}"]
        except BaseException as error:
            end = ["".join(traceback.format_exception_only(error)).strip()[-1500:]]
        finally:
            watch.watched = None
        opened = [one for one in watch.found if not one.endswith("/dev/zero")]  # it may be opened, but not read
        changed = sorted(path.name for path in world.outside.iterdir()) != before
        here = world.canary.exists() or Path("EXECUTED").exists()
        return [*end, *opened, *["executed"] * here, *["wrote outside"] * changed]


def in_process(name: str, base: Path) -> list[str]:
    """The same in a process of its own, which has so much memory and time."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (status + MEMORY_BYTES,) * 2)
        signal.alarm(SECONDS)
        with os.fdopen(writer, "w") as file:
            json.dump(faults_of(name, base), file)
            file.flush()
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        told = file.read()
    _, status = os.waitpid(child, 0)
    return json.loads(told) if told else [f"ended by {status}: more than {SECONDS} s, or memory"]


def main() -> None:
    """Run all cases, and print what went wrong."""
    words = sys.argv[1:]
    quick, names = "--quick" in words, [word for word in words if word != "--quick"] or list(CASES)
    with tempfile.TemporaryDirectory() as home:
        base = make_base(Path(home))
        passed = 0
        for name in names:
            faults = (faults_of if quick else in_process)(name, base)
            passed += not faults
            print(f"{'passed' if not faults else 'FAILED'}  {name}{'  ' * bool(faults)}{'; '.join(faults)}", flush=True)
    print(f"hostile: {passed}/{len(names)}")
    sys.exit(passed < len(names))


if __name__ == "__main__":
    main()
