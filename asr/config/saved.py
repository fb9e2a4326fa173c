"""Configs that were saved, or lie in somebody's directory: read within limits, and nothing in a saved one is resolved.

A few bytes of YAML can stand for gigabytes, by names for parts that are repeated; what a text amounts to is counted
before any of it is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.errors import InputError
from asr.files import read_regular

MOST_BYTES = 2**20
MOST_VALUES = 20_000  # repeated ones counted as often as they are
DEEPEST = 30  # sections and lists in each other
MOST_SHOWN = 200  # characters of what is wrong
INTERPOLATION = re.compile(r"(?<!\\)(?:\\\\)*\$\{")


def text_of(path: Path) -> str:
    """The text of a config. Raises InputError where it is no text, or too much of it."""
    try:
        text = read_regular(path, MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text (byte {error.start})") from None
    require_small(text)
    return text


def require_small(text: str) -> None:
    """Raise InputError where YAML stands for more than a config can, or is none."""
    if len(text) > MOST_BYTES:
        raise InputError(f"holds more than {MOST_BYTES} characters: it is no config")
    sizes: dict[str, int] = {}  # of what has a name
    waiting: list[tuple[str | None, int]] = [(None, 0)]  # name and size of each section that is not at its end

    def count(size: int, name: str | None = None) -> None:
        if name is not None:
            sizes[name] = size
        outer, before = waiting.pop()
        waiting.append((outer, before + size))
        if before + size > MOST_VALUES:
            raise InputError(f"holds more than {MOST_VALUES} values: it is no config")

    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionStartEvent):
                waiting.append((event.anchor, 1))
                if len(waiting) > DEEPEST:
                    raise InputError(f"has more than {DEEPEST} sections in each other: it is no config")
            elif isinstance(event, yaml.CollectionEndEvent):
                name, size = waiting.pop()
                count(size, name)
            elif isinstance(event, yaml.ScalarEvent):
                count(1, event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in sizes:
                    raise InputError(f"*{event.anchor} stands for nothing, or is in itself")
                count(sizes[event.anchor])
    except (yaml.YAMLError, ValueError) as error:
        raise not_yaml(error) from None


def parse(text: str) -> DictConfig:
    """What a saved config holds. Raises InputError where it is none, or is to be filled in from elsewhere.

    `asr.config.schema.to_yaml` writes no interpolation: `${oc.env:HOME}` in what it wrote is somebody else's.
    """
    require_small(text)
    try:
        raw = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        raise not_yaml(error) from None
    if not isinstance(raw, DictConfig):
        raise InputError("not a config: the text must hold `key: value` lines")
    refuse_interpolations(OmegaConf.to_container(raw), "")
    return raw


def not_yaml(error: Exception) -> InputError:
    """The error for a text that its reader does not take, cut short."""
    return InputError(f"not YAML: {' '.join(str(error).partition('full_key:')[0].split())[:MOST_SHOWN]}")


def refuse_interpolations(value: Any, name: str) -> None:
    """Raise InputError where a text in a value is to be filled in from elsewhere."""
    if isinstance(value, str) and INTERPOLATION.search(value):
        raise InputError(f"{name}={value}: an interpolation, which no saved config has; write the value itself")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in parts:
        refuse_interpolations(one, f"{name}.{key}".lstrip("."))
