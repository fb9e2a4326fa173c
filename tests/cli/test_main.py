"""The console script: help, dispatch, exit statuses, and how soon it answers."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import asr
from asr.cli.main import main
from asr.config import COMMANDS, TrainConfig, TranscribeConfig
from asr.errors import InputError, Stopped

SOURCE = Path(asr.__file__).resolve().parent.parent


def python(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python in a directory of its own, with the package importable."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that commands are called with; the commands themselves are not run."""
    received: list[Any] = []
    for command in COMMANDS:
        module = ModuleType(f"asr.cli.{command}")
        module.main = received.append  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"asr.cli.{command}", module)
    return received


def command_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_config: TrainConfig) -> None:
        raise error

    module = ModuleType("asr.cli.train")
    module.main = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "asr.cli.train", module)


def one_error(capsys: pytest.CaptureFixture[str], words: list[str], status: int = 2) -> str:
    assert main(words) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err.strip()


def rows(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The words of every indented line that was printed."""
    return [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]


# Help


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert [row[0] for row in rows(capsys)] == list(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"asr {asr.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: asr {command}" in capsys.readouterr().out


def test_command_help_shows_groups_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    shown = {row[0]: " ".join(row[1:]) for row in rows(capsys)}
    assert shown["model"] == "conformer_l | conformer_m | conformer_s | debug | large | medium | small | tiny"
    assert shown["optim.final_lr"].startswith("float 0.01 0 to 1 share of the peak")
    assert shown["train.device"].startswith("str auto auto | cpu | cuda")
    assert shown["run"].startswith("str required directory")


def test_command_help_shows_the_defaults_of_the_choices_made(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "model=tiny", "--help"])
    assert ["model.joiner_dim", "int", "128"] in [row[:3] for row in rows(capsys)]


def test_command_help_knows_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("layers: 3\n")
    main(["train", "--help", "--config-dir", str(tmp_path)])
    assert "debug | large | medium | mine | small | tiny" in capsys.readouterr().out


def test_cfg_prints_the_config_and_runs_nothing(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "run=r", "data.tokenizer=${run}/t", "--cfg"]) == 0
    assert "tokenizer: r/t" in capsys.readouterr().out
    assert calls == []


# Dispatch


def test_command_gets_its_config(calls: list[Any]) -> None:
    assert main(["train", "run=r", "optim.lr=0.5"]) == 0
    assert type(calls[0]) is TrainConfig
    assert (calls[0].run, calls[0].optim.lr) == ("r", 0.5)


@pytest.mark.parametrize(
    "flags",
    [
        ["--config-dir", "{}", "--config-name", "mine"],
        ["--config-dir={}", "--config-name=mine.yaml"],
        ["-cd", "{}", "-cn", "mine"],
    ],
)
def test_recipe_is_named_by_flags(flags: list[str], tmp_path: Path, calls: list[Any]) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [train, {override model: tiny}, _self_]\nrun: r\n")
    assert main(["train", "optim.lr=0.5", *(flag.format(tmp_path) for flag in flags), "train.steps=3"]) == 0
    assert (calls[0].model.joiner_dim, calls[0].optim.lr, calls[0].train.steps) == (128, 0.5, 3)


def test_transcribe_takes_files(calls: list[Any]) -> None:
    hard = ["a (1), b.wav", "{c}.flac", "${d}.wav", "~e.wav", "é'\".wav"]
    assert main(["transcribe", "a.wav", "run=r", *hard, "device=cpu", "--", "f=g.wav", "-h.wav"]) == 0
    assert type(calls[0]) is TranscribeConfig
    assert calls[0].device == "cpu"
    assert calls[0].files == ["a.wav", *hard, "f=g.wav", "-h.wav"]


def test_files_of_both_forms_are_joined(calls: list[Any]) -> None:
    main(["transcribe", "run=r", "files=[a.wav]", "b.wav"])
    assert calls[0].files == ["a.wav", "b.wav"]


# Refusals


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "asr: error: no command"),
        (["trian"], "asr: error: trian: unknown command; did you mean train?"),
        (["--hlep"], "asr: error: --hlep: unknown command"),
        (["train", "run=r", "optim.lrr=1"], "asr train: error: optim.lrr=1: unknown option; did you mean"),
        (["train", "word"], "asr train: error: word: not of the form key=value"),
        (["train", "--confg-dir=x"], "asr train: error: --confg-dir=x: unknown flag"),
        (["train", "--config-dir"], "asr train: error: argument -cd/--config-dir: expected one argument"),
        (["train", "lr=1", "--help"], "asr train: error: lr=1: unknown option"),
        (["transcribe", "a.wav"], "asr transcribe: error: missing: run=..."),
        (["transcribe", "a.wav", "-x", "run=r"], "asr transcribe: error: -x: unknown flag"),
    ],
)
def test_refusals(words: list[str], expected: str, calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert one_error(capsys, words).startswith(expected)
    assert calls == []


def test_errors_of_a_command_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command_that_raises(monkeypatch, InputError("no such\nmanifest"))
    assert one_error(capsys, ["train", "run=r"]) == "asr train: error: no such manifest"


@pytest.mark.parametrize(
    ("interrupt", "status"),
    [(KeyboardInterrupt(), 130), (Stopped(), 130), (Stopped(number=15), 143), (Stopped(number=1), 129)],
)
def test_interruption(
    interrupt: KeyboardInterrupt, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(monkeypatch, interrupt)
    assert one_error(capsys, ["train", "run=r"], status) == "asr train: interrupted"


def test_programming_errors_keep_their_trace_and_end_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(monkeypatch, ZeroDivisionError("of 1"))
    assert main(["train", "run=r"]) == 1
    trace = capsys.readouterr().err.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "asr train: error: ZeroDivisionError: of 1; this is a fault of the program"


# Processes


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys, asr; from asr.cli.main import main; status = main(['--help']); "
        "print(sorted({'torch', 'hydra', 'lhotse'} & set(sys.modules)), status, file=sys.stderr)"
    )
    assert python(tmp_path, "-c", script).stderr.strip() == "[] 0"


@pytest.mark.parametrize("word", ["optim.lrr=1", "optim.lr=-1", "model=tinny"])
def test_refusal_is_one_line_and_leaves_nothing_behind(word: str, tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "asr.cli.main", "train", "run=exp/x", word)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_refusal_imports_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from asr.cli.main import main; status = main(['train', 'run=r', 'optim.lr=-1']); "
        "print('torch' in sys.modules, status)"
    )
    assert python(tmp_path, "-c", script).stdout.strip() == "False 2"


def test_broken_pipe_is_quiet(tmp_path: Path) -> None:
    script = (
        "import os, sys; from asr.cli.main import main; reader, writer = os.pipe(); os.close(reader); "
        "os.dup2(writer, 1); sys.exit(main(['--help']))"
    )
    done = python(tmp_path, "-c", script)
    assert (done.stderr, done.returncode) == ("", 1)
