"""The console script `asr`: reads the command line, and runs a command once its config is checked."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from asr import __version__
from asr.config import COMMANDS
from asr.console import lasting_stderr, visible_stdout
from asr.errors import InputError, PartlyDone, Stopped
from asr.options import choose, flatten, range_text, shown, type_name

# The option that takes words without `=`, and what help calls them.
_POSITIONAL = {
    "transcribe": ("files", "[FILE ...]"),
    "plot": ("pictures", "lattice|batch"),
    "compare": ("runs", "RUN ..."),
    "report": ("runs", "RUN ..."),
}
_SIGNALLED = 128  # and the signal's number: what shells report for a program that one has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit status: 0 done, 1 failed or in part done, 2 refused, 128 + a signal."""
    _print_utf8()
    words = list(sys.argv[1:] if argv is None else argv)
    program = f"asr {words[0]}" if words and words[0] in COMMANDS else "asr"
    with lasting_stderr(), visible_stdout():
        return _status_of(program, words)


def _status_of(program: str, words: list[str]) -> int:
    try:
        _run(words)
        sys.stdout.flush()
        return 0
    except InputError as error:
        return _complain(f"{program}: error: {error}", 2)
    except PartlyDone as error:
        return _complain(f"{program}: {error}", 1)
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, Stopped) else signal.SIGINT
        said = f"{program}: interrupted; {interrupt}" if str(interrupt) else f"{program}: interrupted"
        return _complain(said, _SIGNALLED + number)
    except BrokenPipeError:
        # The reader has gone (`asr ... | head`). What is still buffered must not fail when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a directory that cannot be written, a file where one should be
        return _complain(f"{program}: error: {error}", 2)
    except Exception as error:
        traceback.print_exc()
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return _complain(f"{program}: error: {what}; this is a fault of the program", 1)


def _print_utf8() -> None:
    """Print text of any language, also where the system would have another encoding, as in a pipe on Windows, and names
    of files that are no text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            other = stream.encoding.lower() not in ("utf-8", "utf8")
            stream.reconfigure(encoding="utf-8" if other else None, errors="backslashreplace")  # names of files


def _complain(message: str, status: int) -> int:
    print(" ".join(message.splitlines()), file=sys.stderr)
    return status


def _run(words: list[str]) -> None:
    if not words:
        raise InputError(f"no command; give one of {', '.join(COMMANDS)}, or --help")
    if words[0] in ("-h", "--help"):
        print(_overview())
    elif words[0] == "--version":
        print(f"asr {__version__}")
    elif words[0] in COMMANDS:
        _run_command(words[0], words[1:])
    else:
        raise InputError(f"{words[0]}: unknown command; {choose(words[0], COMMANDS)}")


def _run_command(command: str, words: list[str]) -> None:
    given = _read(words, command)
    overrides, files = _split_files(command, given.words, given.literal)
    if given.help:
        print(_command_help(command, overrides, given))
        return
    if given.multirun:
        _run_many(command, overrides, given)
        return
    config = _configure(command, overrides, files, given)
    if given.cfg:
        from asr.config.schema import to_yaml

        print(to_yaml(config), end="")
    else:
        importlib.import_module(f"asr.cli.{command}").main(config)


def _run_many(command: str, overrides: list[str], given: argparse.Namespace) -> None:
    if command != "train":
        raise InputError(f"--multirun: `asr {command}` has none; `asr train` does")
    if given.cfg:
        raise InputError("--cfg: prints one config, and --multirun has several; give one value of each option")
    from asr.cli import multirun

    multirun.main(overrides, given.config_dir, given.config_name)


def _configure(command: str, overrides: list[str], files: list[str], given: argparse.Namespace) -> Any:
    from asr.cli.compose import compose

    config = compose(command, overrides, given.config_dir, given.config_name)
    # File names never pass through Hydra's grammar, to which a space or a comma has a meaning.
    if not files:
        return config
    name = _POSITIONAL[command][0]
    return dataclasses.replace(config, **{name: getattr(config, name) + files})


# Words of the command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _parser() -> _Parser:
    parser = _Parser(prog="asr", add_help=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", type=Path)
    parser.add_argument("-cn", "--config-name")
    return parser


def _read(words: list[str], command: str) -> argparse.Namespace:
    """The flags, `words` (anything else), and `literal` (what follows `--`)."""
    end = words.index("--") if "--" in words else len(words)
    files = [word for word in words[:end] if command in _POSITIONAL and _is_dashed_file(word)]
    flags = {word: override for word in words[:end] if word not in files and (override := _own_flag(word, command))}
    parser = _parser()
    given, unknown = parser.parse_known_intermixed_args([word for word in words[:end] if word not in (*flags, *files)])
    if unknown:
        raise InputError(
            f"{unknown[0]}: unknown flag; "
            "flags: --help, --cfg, --multirun, --config-dir, --config-name, and --OPTION=VALUE"
        )
    given.words += flags.values()
    given.literal = files + words[end + 1 :]
    return given


def _is_dashed_file(word: str) -> bool:
    """Whether this looks like a flag, and is a file: `*.wav` may come upon `--output=x.wav`, that nobody asked for."""
    return word.startswith("-") and word != "-" and os.path.exists(word)


def _own_flag(word: str, command: str) -> str:
    """An option of a command's own written as a flag, `--streaming` or `--nbest=4`, as an override; else nothing."""
    name, equals, value = word.removeprefix("--").partition("=")
    hint = get_type_hints(COMMANDS[command]).get(name)
    if not word.startswith("--") or hint is None or not (equals or bool in (hint, *get_args(hint))):
        return ""
    return f"{name}={value if equals else 'true'}"


def _split_files(command: str, words: list[str], literal: list[str]) -> tuple[list[str], list[str]]:
    """Overrides and files: a few commands take files, words without `=`, or of what exists, and what follows `--`."""
    if command not in _POSITIONAL:
        return words + literal, []
    is_file = {word: "=" not in word or os.path.exists(word) for word in words}  # sweeps make such directories
    return [word for word in words if not is_file[word]], [word for word in words if is_file[word]] + literal


# Help


def _overview() -> str:
    rows = [(name, _summary(schema)) for name, schema in COMMANDS.items()]
    return "\n".join(
        [
            "usage: asr COMMAND [--config-dir DIR] [--config-name NAME] [--cfg] [key=value ...]",
            "",
            "Train and use neural transducers for speech recognition.",
            "",
            "commands:",
            *_table(rows),
            "",
            "asr COMMAND --help lists the options of a command; asr --version prints the version.",
        ]
    )


def _summary(schema: type) -> str:
    first = (schema.__doc__ or "").strip().splitlines()[0]
    return first.partition(": ")[2] or first


def _command_help(command: str, overrides: list[str], given: argparse.Namespace) -> str:
    """Usage, groups and options; the defaults are what this very command line would compose."""
    from asr.cli.compose import compose_tree, list_groups, search_directories

    tree = compose_tree(command, overrides, given.config_dir, given.config_name)
    groups = list_groups(command, search_directories(given.config_dir)).items()
    files = f" {_POSITIONAL[command][1]}" if command in _POSITIONAL else ""
    return "\n".join(
        [
            f"usage: asr {command}{files} [--config-dir DIR] [--config-name NAME] [--cfg] [key=value ...]",
            "",
            _summary(COMMANDS[command]),
            "",
            "  -cd, --config-dir DIR    more configs, searched first: a recipe's",
            "  -cn, --config-name NAME  primary config; default: " + command,
            "  --cfg                    print the config and exit",
            *["  -m, --multirun           train with each of several values, key=a,b,c"] * (command == "train"),
            *_section("groups (group=choice):", [(name, " | ".join(choices)) for name, choices in groups]),
            *_section("options (key=value):", _option_rows(command, tree)),
        ]
    )


def _section(title: str, rows: list[tuple[str, ...]]) -> list[str]:
    return ["", title, *_table(rows)] if rows else []


def _option_rows(command: str, tree: Any) -> list[tuple[str, ...]]:
    from omegaconf import OmegaConf

    from asr.config.schema import list_options

    values: Any = OmegaConf.to_container(tree)
    values = flatten(values)
    return [
        (name, type_name(option.type), _default(values.get(name, option.default)), range_text(option), option.help)
        for name, option in list_options(COMMANDS[command]).items()
    ]


def _default(value: Any) -> str:
    return {"": '""', "???": "required"}.get(value, value) if isinstance(value, str) else shown(value)


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows with aligned columns."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


if __name__ == "__main__":
    sys.exit(main())
