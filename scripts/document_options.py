#!/usr/bin/env python3
"""Every option of every command as a page, from the schemas in asr/config: docs/options.md.

python scripts/document_options.py            writes it anew; a test compares it
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where it is not installed

import yaml  # noqa: E402

from asr.cli.compose import conf_directory, list_groups  # noqa: E402
from asr.config import COMMANDS, VARIANTS  # noqa: E402
from asr.options import MISSING, Option, flatten, range_text, shown, type_name  # noqa: E402

PAGE = ROOT / "docs" / "options.md"
HEAD = """# Options

Every option of every command, with its values, its default and what it does. `asr COMMAND --help` prints the same.

```bash
asr train --help
```

An option is written `name=value`, one of a section `section.name=value`; `loss=pruned` chooses a file of `conf/loss`,
which sets all options of that section. `--config-dir` and `--config-name` take a config of your own, and `--cfg`
prints what comes of it all. A default that is *required* is none: the command asks for a value. A list is written
`[a,b]`, a mapping `{a: 1}`, nothing at all `null`.

(`python scripts/document_options.py` writes this page from `asr/config`.)
"""
COLUMNS = ("| option | values | default | meaning |", "|---|---|---|---|")


def page() -> str:
    """All of the page."""
    commands = (text for command in COMMANDS for text in of_command(command))
    sections = (text for name, kind in sections_of(COMMANDS["train"]) for text in of_section(name, kind))
    return "\n\n".join([HEAD.strip(), "## Commands", *commands, "## Sections", *sections]) + "\n"


def of_command(command: str) -> Iterator[str]:
    """The part of a command: its own options, and where those of its sections are."""
    schema = COMMANDS[command]
    yield f"### asr {command}"
    does = (schema.__doc__ or "").partition(": ")[2]
    yield escaped(does[:1].upper() + does[1:])
    yield table(own_options(schema, "", defaults(command)))
    names = [name for name, _ in sections_of(schema)]
    if names:
        yield "Sections: " + ", ".join(f"[`{name}`](#{anchor(name)})" for name in names) + "."


def of_section(name: str, kind: type) -> Iterator[str]:
    """The part of a section: what is common to all of its classes, and then what some of them have besides."""
    group, variants = name.replace(".", "/"), VARIANTS.get(kind, {})
    choices = list_groups("train", [conf_directory()]).get(group, [])
    yield f"### {name}"
    yield escaped(summary(kind))
    if variants:
        yield "\n".join(f"- `{group}={choice}`: {escaped(summary(one))}" for choice, one in variants.items())
    elif choices:
        yield f"Choices: {', '.join(f'`{group}={choice}`' for choice in choices)}."
    yield table(own_options(kind, f"{name}.", defaults("train")))
    for with_them, rows in own_rows(name, kind).items():
        yield f"With {' or '.join(f'`{group}={choice}`' for choice in with_them)} also:"
        yield "\n".join([*COLUMNS, *rows])


def own_rows(name: str, kind: type) -> dict[tuple[str, ...], list[str]]:
    """The rows of options that not all classes of a section have, by the choices that have them."""
    common = {field.name for field in dataclasses.fields(kind)}
    having: dict[str, list[str]] = {}
    for choice, variant in VARIANTS.get(kind, {}).items():
        for option in own_options(variant, f"{name}.", written(f"{name.replace('.', '/')}/{choice}.yaml", f"{name}.")):
            if option.name.removeprefix(f"{name}.") not in common:
                having.setdefault(row(option), []).append(choice)
    found: dict[tuple[str, ...], list[str]] = {}
    for text, choices in having.items():
        found.setdefault(tuple(choices), []).append(text)
    return found


def summary(kind: type) -> str:
    """What a class is, by the first line of its docstring."""
    return (kind.__doc__ or "").strip().splitlines()[0].partition("; ")[0].rstrip(".") + "."


def sections_of(schema: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """The sections of a schema by full name, and their classes: `loss.arcs` after `loss`."""
    for name, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint):
            kind = typing.cast(type, hint)
            yield f"{prefix}{name}", kind
            yield from sections_of(kind, f"{prefix}{name}.")


def own_options(kind: type, prefix: str, values: Mapping[str, Any]) -> Iterator[Option]:
    """The options of a class that are none of a section in it, with these defaults."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = prefix + field.name, hints[field.name]
        if not dataclasses.is_dataclass(hint):
            value = values.get(name, getattr(kind(), field.name))
            yield Option(name, hint, value, **(of_name(VARIANTS[kind]) if is_name(kind, field) else field.metadata))


def is_name(kind: type, field: dataclasses.Field[Any]) -> bool:
    """Whether a field tells which of its classes a section is."""
    return kind in VARIANTS and field.name == "name"


def of_name(variants: Mapping[str, type]) -> dict[str, Any]:
    """The help of such a field, and its choices."""
    first = next(field for field in dataclasses.fields(next(iter(variants.values()))) if field.name == "name")
    return {**first.metadata, "choices": tuple(variants)}


@functools.cache
def defaults(command: str) -> dict[str, Any]:
    """What a command has where no option is given, by full name: of its file in conf/, and those that this names."""
    values = written(f"{command}.yaml")
    chosen = [one for one in values.pop("defaults", []) if isinstance(one, dict)]
    for group, choice in (item for one in chosen for item in one.items()):
        values |= written(f"{group}/{choice}.yaml", f"{group.replace('/', '.')}.")
    return values


def written(path: str, prefix: str = "") -> dict[str, Any]:
    """What a file of conf/ sets, by full name."""
    return flatten(yaml.safe_load((conf_directory() / path).read_text(encoding="utf-8")) or {}, prefix)


def table(options: Iterable[Option]) -> str:
    """A row for each option."""
    return "\n".join([*COLUMNS, *map(row, options)])


def row(option: Option) -> str:
    """An option as a row of a table."""
    needs = option.name.rpartition(".")[0]
    other = f". Only with `{f'{needs}.' if needs else ''}{option.only_with}`." if option.only_with else ""
    return f"| `{option.name}` | {escaped(values(option))} | {default(option)} | {escaped(option.help)}{other} |"


def values(option: Option) -> str:
    """What an option may be: its choices, or its type and range."""
    if option.choices:
        return ", ".join(option.choices)
    kind = type_name(option.type).replace("str", "path" if option.path else "text")
    return ", ".join(part for part in (kind, range_text(option)) if part)


def default(option: Option) -> str:
    """The default of an option, as it would be written."""
    if option.default == MISSING or (option.needed and not option.default):
        return "*required*"
    return f"`{shown(option.default)}`" if option.default != "" else '`""`'


def anchor(name: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return name.replace(".", "")


def escaped(text: str) -> str:
    """Text in which no character is Markdown's."""
    for mark in "|*<":
        text = text.replace(mark, f"\\{mark}")
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
