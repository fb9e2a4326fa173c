"""Commands where Windows and macOS lack what Linux has: simulated in a process that takes it away."""

import ast
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import asr
from asr import files
from asr.train import window

PACKAGE = Path(asr.__file__).resolve().parent

# Other packages are imported first: they have their own wheels for these systems. `shutil` is told before that
# directories cannot be opened.
WINDOWS = """
import os, signal, sys, warnings
os.supports_dir_fd.clear()
import torch, torchaudio, lhotse, lhotse.dataset, soundfile, hydra, sentencepiece, numba, matplotlib.pyplot
import torch._dynamo, torch.utils.tensorboard, torch.distributed.fsdp, safetensors.torch, kaldialign, tqdm

for module in ("resource", "fcntl", "pwd", "grp", "termios", "pty", "posix"):
    sys.modules[module] = None
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGTSTP", "alarm"):
    signal.__dict__.pop(name, None)
for name in ("fork", "getuid", "geteuid", "uname", "sched_getaffinity", "getpgid", "killpg", "sysconf", "mkfifo"):
    os.__dict__.pop(name, None)
real_open, real_sync, read_only = os.open, os.fsync, set()

def open_(path, flags, *rest, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    descriptor = real_open(path, flags, *rest, **more)
    (read_only.discard if flags & (os.O_RDWR | os.O_WRONLY) else read_only.add)(descriptor)
    return descriptor

def sync(descriptor):
    if descriptor in read_only:
        raise OSError(9, "Bad file descriptor")
    real_sync(descriptor)

os.open, os.fsync = open_, sync
warnings.filterwarnings("error", category=EncodingWarning, module=r"asr\\.")  # cp1252 would be read and written

import importlib
from asr.cli.main import main
from asr.config import COMMANDS
for command in COMMANDS:
    importlib.import_module(f"asr.cli.{command}")
for line in sys.stdin.read().splitlines():
    status = main(line.split("\\t"))
    assert status == 0, line
"""


def test_commands_run_without_what_windows_lacks(tiny_corpus, tmp_path):
    run, words = tmp_path / "run", tmp_path / "words"
    options = ["model=debug", "data=debug", "train=debug", "optim=debug", "train.device=cpu", "train.steps=2"]
    data = [f"data.train_cuts=[{tiny_corpus.train}]", f"data.valid_cuts=[{tiny_corpus.dev}]"]
    words.mkdir()
    audio = tiny_corpus.directory / "dev-0.flac"
    os.link(audio, words / "one.flac")
    (words / "one.txt").write_text("LOW 日本", encoding="utf-8")
    commands = [
        ["train", f"run={run}", *options, *data, f"data.tokenizer={tiny_corpus.tokenizer}"],
        ["manifest", f"input={words}", f"output={tmp_path / 'cuts.jsonl.gz'}"],
        ["tokenizer", f"cuts=[{tiny_corpus.train}]", f"output={tmp_path / 'char'}", "kind=char"],
        ["decode", f"run={run}", f"cuts={tmp_path / 'cuts.jsonl.gz'}", f"output={run / 'out'}", "device=cpu"],
        ["transcribe", str(audio), f"run={run}", "format=json", "device=cpu"],
        ["score", f"hypotheses={run / 'out' / 'hypotheses.jsonl'}", f"output={tmp_path / 'scored'}"],
        ["compare", str(run)],
        ["report", str(run), f"cuts=[{tmp_path / 'cuts.jsonl.gz'}]", f"output={tmp_path / 'report.html'}"],
    ]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", WINDOWS],
        input="\n".join("\t".join(command) for command in commands),
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "characters: L O W 日 本" in done.stdout
    assert "%CER" in done.stdout
    assert "日" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_text_files_have_an_encoding_that_no_system_chooses():
    found = []
    for path in PACKAGE.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
        texts = [call for call in calls if is_of_text(call)]
        found += [(path, call.lineno) for call in texts if "encoding" not in {word.arg for word in call.keywords}]
    assert found == []


def is_of_text(call):
    """Whether a call reads or writes a file as text."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("read_text", "write_text", "FileHandler"):
        return True
    modes = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return name == "open" and any(set(mode) <= set("rwaxt+") for mode in modes or "r" * isinstance(call.func, ast.Name))


def test_peak_memory_is_in_mb_on_every_system(monkeypatch):
    assert 100 < window.peak_memory_mb(torch.device("cpu")) < 100_000
    assert window.resident_mb("darwin") == pytest.approx(window.resident_mb("linux") / 1024, rel=0.1)
    monkeypatch.setattr(window, "resource", None)
    assert math.isnan(window.resident_mb("win32"))


def test_a_file_is_synced_and_a_directory_where_it_can_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x")
    files.sync(tmp_path / "file")
    files.sync(tmp_path)

    def refuse(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    files.sync(tmp_path)
    with pytest.raises(PermissionError):
        files.sync(tmp_path / "file")
