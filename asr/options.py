"""What an option of a config is, and which values it may take: for the command line and for the library alike.

Needs nothing but Python's own library.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from asr.errors import InputError

LARGEST = 1e9  # that a number may be which has no limit of its own
MISSING = "???"  # the default of an option that must be given; OmegaConf's mark for it

# How alike (difflib's ratio) two names must be to suggest one for the other: in their last component, or as a
# whole; more as a whole, because all options of one section begin alike.
_SIMILAR_LAST, _SIMILAR_WHOLE = 0.6, 0.8


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    length: int | None = None,
    only_with: str = "",
) -> Any:
    """A field with its help text and the values it may take (`low` and `high` inclusive); see `Option`."""
    limits = {"low": low, "high": high, "choices": choices, "length": length}
    return _field(default, {"help": help, **limits, "only_with": only_with})


def path_option(default: Any, help: str, *, needed: bool = False, only_with: str = "") -> Any:
    """A field for the path of a file or directory, or for a list of such: `~` in it is the home directory.

    needed: the command cannot do without, though a config can, where its value is empty.
    """
    return _field(default, {"help": help, "path": True, "needed": needed, "only_with": only_with})


def _field(default: Any, metadata: dict[str, Any]) -> Any:
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """One option under its full name, with what may be said about its values.

    low, high: of a number, or of each in a list; LARGEST, where there is no `high`. length: of a list that is always as
    long.
    needed: the command cannot do without, though a config can, where its value is empty. only_with: another option of
    the section without which it has no effect: its name, where any value but none will do, or `name or name`, or
    `name=value`, or `name=value or value`.
    """

    name: str
    type: Any
    default: Any
    help: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None
    path: bool = False
    needed: bool = False
    only_with: str = ""


def make_options(kind: str, name: str, classes: Mapping[str, type], values: Mapping[str, Any]) -> Any:
    """The options of the class called `name`. Raises InputError where there is no such class or option."""
    if name not in classes:
        raise InputError(f"no {kind} is called {name!r}; {choose(name, classes)}")
    known = [one.name for one in dataclasses.fields(classes[name])]
    for key in values:
        if key not in known:
            raise InputError(f"{kind} {name!r}: unknown option {key}; {choose(key, known)}")
    return classes[name](**values)


@functools.lru_cache
def types_of(kind: type) -> dict[str, Any]:
    """The types of the fields of a class, which are written as text."""
    return typing.get_type_hints(kind)


def check_types(config: Any) -> None:
    """Raise InputError where a value of the dataclass `config` is not of the type of its field."""
    hints = types_of(type(config))  # type: ignore[arg-type]
    for one in dataclasses.fields(config):
        value, hint = getattr(config, one.name), hints[one.name]
        kinds = typing.get_args(hint) or (hint,)
        as_number = (float, int) if float in kinds else ()  # a whole number will do
        if not isinstance(value, (*kinds, *as_number)) or (isinstance(value, bool) and bool not in kinds):
            raise InputError(
                f"{one.name}={value!r}: needs a value of type {type_name(hint)} ({one.metadata.get('help', '')})"
            )


def check_values(config: Any, prefix: str) -> None:
    """Raise InputError where a value of the dataclass `config` is out of its range; `prefix` goes before names."""
    for one in dataclasses.fields(config):
        name, value = prefix + one.name, getattr(config, one.name)
        if dataclasses.is_dataclass(value):
            check_values(value, f"{name}.")
        else:
            _check_value(Option(name, one.type, one.default, **one.metadata), value)


def without_effect(config: Any, given: Iterable[str], prefix: str = "") -> dict[str, str]:
    """Those of the options `given` by full name that can do nothing beside the others, and what is to be said of each.

    config: the dataclass that they are options of; `prefix` goes before names.
    """
    faults = {}
    for name in given:
        *sections, last = name.split(".")
        section = functools.reduce(lambda outer, inner: getattr(outer, inner, None), sections, config)
        known = dataclasses.fields(section) if dataclasses.is_dataclass(section) else ()
        needed = next((one.metadata.get("only_with", "") for one in known if one.name == last), "")
        others, _, values = needed.partition("=")
        given_values = [getattr(section, other, None) for other in others.split(" or ")]
        if needed and not (shown(given_values[0]) in values.split(" or ") if values else any(given_values)):
            before = prefix + "".join(f"{part}." for part in sections)
            wanted = f"{before}{needed}" if values else " or ".join(f"{before}{one}=…" for one in others.split(" or "))
            faults[name] = f"{before}{last}={shown(getattr(section, last))}: has no effect without {wanted}"
    return faults


def require_effect(config: Any, given: Iterable[str]) -> None:
    """Raise InputError where an option that was given can do nothing; see `without_effect`."""
    for fault in without_effect(config, given).values():
        raise InputError(f"{fault}: give that, too, or leave this out")


def expand_paths(config: Any, prefix: str) -> None:
    """Put the home directory for `~` in the paths of the dataclass `config`; raise InputError where there is none."""
    replace_paths(config, lambda path, name: with_home(path, f"{name}="), prefix)


def replace_paths(config: Any, change: Callable[[str, str], str], prefix: str = "") -> None:
    """Put `change(path, name of the option)` for each path of the dataclass `config`; `prefix` goes before names."""
    for one in dataclasses.fields(config):
        name, value = prefix + one.name, getattr(config, one.name)
        if dataclasses.is_dataclass(value):
            replace_paths(value, change, f"{name}.")
        elif one.metadata.get("path"):
            paths = [change(text, name) for text in (value if isinstance(value, list) else [value])]
            setattr(config, one.name, paths if isinstance(value, list) else paths[0])


def with_home(path: str, before: str = "") -> str:
    """A path with the home directory in the place of `~`. Raises InputError where there is none; it begins `before`."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise InputError(f"{before}{path}: no such home directory; what is called so is written ./{path}")
    return expanded


def _check_value(option: Option, value: Any) -> None:
    if option.default == MISSING and value == "":
        raise missing_values([option])
    elements = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if option.length is not None and len(elements) != option.length:
        raise InputError(f"{option.name}={shown(value)}: needs {option.length} values ({option.help})")
    for element in elements:
        fault = _fault(option, element)
        if fault:
            raise InputError(f"{option.name}={shown(value)}: {fault} ({option.help})")


def _fault(option: Option, value: Any) -> str:
    """What is wrong with one value of an option, and what would be right; nothing if nothing is."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number{', ' * bool(range_text(option))}{range_text(option)}"
    if isinstance(value, (int, float)) and not _within(option, value):
        return f"must be {range_text(option)}"
    if isinstance(value, (int, float)) and option.high is None and abs(value) > LARGEST:
        return f"must be {LARGEST:g} at most"
    if isinstance(value, str) and option.choices and value not in option.choices:
        return f"unknown value; {choose(value, option.choices)}"
    return ""


def _within(option: Option, value: float) -> bool:
    return (option.low is None or value >= option.low) and (option.high is None or value <= option.high)


def range_text(option: Option) -> str:
    """The values that an option may take, as text; empty if its type says it all."""
    if option.choices:
        return " | ".join(option.choices)
    if option.low is not None and option.high is not None:
        return f"{option.low} to {option.high}"
    if option.low is not None:
        return f">= {option.low}"
    return "" if option.high is None else f"<= {option.high}"


def missing_values(options: Sequence[Option]) -> InputError:
    """The error that names options which must be given."""
    needed = "; ".join(f"{option.name}=... ({option.help})" for option in options)
    return InputError(f"missing: {needed}")


def require_needed(section: Any, prefix: str, but: Iterable[str] = ()) -> None:
    """Raise InputError that names all needed options of a dataclass that are empty, `but` for these."""
    empty = [
        Option(prefix + one.name, one.type, one.default, **one.metadata)
        for one in dataclasses.fields(section)
        if one.metadata.get("needed") and one.name not in but and not getattr(section, one.name)
    ]
    if empty:
        raise missing_values(empty)


def type_name(hint: Any) -> str:
    """A type in words: `int`, `int or null`, `list of str`, `{str: float}`."""
    arguments = typing.get_args(hint)
    if not arguments:
        return str(hint.__name__)
    if typing.get_origin(hint) is list:
        return f"list of {type_name(arguments[0])}"
    if typing.get_origin(hint) is dict:
        return f"{{{type_name(arguments[0])}: {type_name(arguments[1])}}}"
    return " or ".join("null" if one is type(None) else type_name(one) for one in arguments)


def shown(value: Any) -> str:
    """A value as YAML would have it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one mapping of full names: {"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def differing(options: Sequence[dict[str, str]]) -> list[str]:
    """The names of the options that are not the same in all that have them, sorted."""
    names = sorted({name for one in options for name in one})
    return [name for name in names if len({one[name] for one in options if name in one}) > 1]


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `word`, or whose last component is most like its last component."""
    scores = {name: _likeness(word, name) for name in names}
    return sorted((name for name in scores if scores[name] > 0), key=lambda name: -scores[name])[:count]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """A question with the nearest names; empty if none is near."""
    close = nearest(word, names)
    return f"did you mean {' or '.join(close)}?" if close else ""


def choose(word: str, choices: Iterable[str]) -> str:
    """The remedy for a wrong choice: the nearest, and all there are."""
    listed = ", ".join(choices)
    return f"{did_you_mean(word, choices)} choices: {listed}".lstrip()


def _likeness(word: str, name: str) -> float:
    """How good a suggestion `name` is for `word`; 0 if none."""
    last, whole = _ratio(_last(word), _last(name)), _ratio(word, name)
    if last < _SIMILAR_LAST and whole < _SIMILAR_WHOLE:
        return 0.0
    return last + whole


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _last(name: str) -> str:
    return name.rpartition(".")[2]
