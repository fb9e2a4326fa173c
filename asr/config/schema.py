"""Values checked against the schema: of the command line, and of a config that was saved.

Every refusal is an `InputError` of one line.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.config import COMMANDS, VARIANTS
from asr.config.loss import load_installed
from asr.config.saved import parse
from asr.errors import InputError
from asr.options import (
    MISSING,
    Option,
    check_values,
    choose,
    did_you_mean,
    expand_paths,
    missing_values,
    shown,
    type_name,
)


def list_options(schema: type, chosen: Mapping[str, type] | None = None) -> dict[str, Option]:
    """Every option of a command's schema by full name.

    Of a section with several classes (`asr.config.VARIANTS`) the one in `chosen` counts; all do by default.
    """
    load_installed()
    found: dict[str, Option] = {}
    for option in _walk(schema, "", chosen):
        found[option.name] = _either(found.get(option.name), option)
    return found


def checked(raw: DictConfig, command: str) -> Any:
    """The config that Hydra composed, as an object of the command's class."""
    return finished(typed(raw, command), command)


def to_yaml(config: Any) -> str:
    """The text of a config, for `config.yaml` of a run."""
    return OmegaConf.to_yaml(OmegaConf.create(_escaped(dataclasses.asdict(config))))


def from_yaml(text: str, command: str) -> Any:
    """The config that `to_yaml` wrote, checked as on the command line; see `asr.config.saved`."""
    return checked(parse(text), command)


def typed(raw: DictConfig, command: str) -> DictConfig:
    """The composed values in the schema's types; what is not in the schema is refused."""
    load_installed()
    values = typing.cast(dict[Any, Any], OmegaConf.to_container(raw))
    schema, chosen = OmegaConf.structured(COMMANDS[command]), _variants(COMMANDS[command], values)
    for name, variant in chosen.items():
        OmegaConf.update(schema, name, OmegaConf.structured(variant), merge=False)
    options = list_options(COMMANDS[command], chosen)
    _check_names(values, "", command, options)
    for name, path in _lone_paths(values, options):
        OmegaConf.update(raw, name, [path])
    try:
        return typing.cast(DictConfig, OmegaConf.merge(schema, raw))
    except OmegaConfBaseException as error:
        raise _wrong_type(error, values, options) from None


def finished(tree: DictConfig, command: str) -> Any:
    """The typed object, with nothing missing, every value in its range and `~` replaced in paths."""
    values = typing.cast(dict[str, Any], OmegaConf.to_container(tree))
    options = list_options(COMMANDS[command]).values()
    missing = [option for option in options if _value_at(values, option.name) == MISSING]
    if missing:
        empty = [option for option in options if option.needed and not _value_at(values, option.name)]
        raise missing_values([*missing, *empty])
    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        name = str(error.full_key)
        raise InputError(f"{name}={shown(_value_at(values, name))}: {first_line(error)}") from None
    check_values(config, "")
    expand_paths(config, "")
    return config


def _walk(schema: type, prefix: str, chosen: Mapping[str, type] | None) -> Iterator[Option]:
    hints, defaults = typing.get_type_hints(schema), schema()
    for field in dataclasses.fields(schema):
        name, hint = prefix + field.name, hints[field.name]
        if hint in VARIANTS:
            for variant in VARIANTS[hint].values() if chosen is None else [chosen[name]]:
                for option in _walk(variant, f"{name}.", chosen):
                    is_name = option.name == f"{name}.name"  # whose choices grow as others are registered
                    yield dataclasses.replace(option, choices=tuple(VARIANTS[hint])) if is_name else option
        elif dataclasses.is_dataclass(hint):
            yield from _walk(typing.cast(type, hint), f"{name}.", chosen)
        else:
            yield Option(name, hint, getattr(defaults, field.name), **field.metadata)


def _either(first: Option | None, second: Option) -> Option:
    """Options of one name in several variants: any of their choices will do."""
    if first is None:
        return second
    return dataclasses.replace(first, choices=tuple(dict.fromkeys(first.choices + second.choices)))


def is_section(name: str, options: Mapping[str, Option]) -> bool:
    """Whether options have names in this section."""
    return any(option.startswith(f"{name}.") for option in options)


def unknown(text: str, name: str, command: str, names: Iterable[str]) -> InputError:
    """The error for a name that is no option, with the nearest that is one."""
    section, _, last = name.rpartition(".")
    classes = VARIANTS.get(_hint_at(COMMANDS[command], section), {})
    owners = [key for key, one in classes.items() if last in {field.name for field in dataclasses.fields(one)}]
    if owners:
        group = section.replace(".", "/")
        return InputError(f"{text}: unknown option; there is one of {group}={' or '.join(owners)}: choose that, too")
    return InputError(f"{text}: unknown option; {did_you_mean(name, names) or f'see `asr {command} --help`'}")


def _hint_at(schema: type, section: str) -> Any:
    """The type of the section of this full name; `object` where there is none."""
    hint: Any = schema
    for part in section.split("."):
        hint = typing.get_type_hints(hint).get(part, object)
    return hint


def _variants(schema: type, values: Mapping[Any, Any], prefix: str = "") -> dict[str, type]:
    """The class of each section that has several, by what the section's `name` is; outer sections first."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint):
            section, inner = f"{prefix}{name}", values.get(name)
            kind = typing.cast(type, hint)
            if hint in VARIANTS:
                kind = found[section] = _variant(section, VARIANTS[kind], inner, type(getattr(schema(), name)))
            found |= _variants(kind, inner if isinstance(inner, dict) else {}, f"{section}.")
    return found


def _variant(section: str, classes: Mapping[str, type], value: Any, default: type) -> type:
    if not isinstance(value, dict) or "name" not in value:
        return default
    name = str(value["name"])
    if name not in classes:
        raise InputError(f"{section}.name={name}: unknown {section}; {choose(name, classes)}")
    return classes[name]


def _check_names(values: Mapping[Any, Any], prefix: str, command: str, options: Mapping[str, Option]) -> None:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in options:
            if isinstance(value, dict) and typing.get_origin(options[name].type) is not dict:
                raise InputError(f"{name}={shown(value)}: no section; needs {_described(options[name])}")
        elif not is_section(name, options):
            raise unknown(f"{name}={shown(value)}", name, command, list_options(COMMANDS[command]))
        elif not isinstance(value, dict):
            raise InputError(f"{name}={shown(value)}: a section; set options in it, as {name}.OPTION=VALUE")
        else:
            _check_names(value, f"{name}.", command, options)


def _lone_paths(values: Mapping[str, Any], options: Mapping[str, Option]) -> Iterator[tuple[str, str]]:
    """The options for lists of paths that have one path instead, and the path: it is as good as a list of it."""
    for name, option in options.items():
        value = _value_at(values, name)
        if option.path and _is_list(option) and isinstance(value, str) and value and "${" not in value:
            yield name, value


def _wrong_type(error: OmegaConfBaseException, values: Mapping[str, Any], options: Mapping[str, Option]) -> InputError:
    name = re.sub(r"\[\d+\]$", "", str(error.full_key))
    name = next((one for one in options if name.startswith(f"{one}.")), name)  # of a value in a mapping
    value = _value_at(values, name)
    if name not in options:
        return InputError(f"{name}={shown(value)}: {first_line(error)}")
    return InputError(f"{name}={shown(value)}: needs {_described(options[name])}{_one_or_list(options[name], value)}")


def _one_or_list(option: Option, value: Any) -> str:
    """The remedy where one value was given for a list, or a list for one."""
    if _is_list(option):
        return f"; write {option.name}=[{value}]" if isinstance(value, str) else ""
    if not isinstance(value, list) or not value:
        return ""
    return f"; write {option.name}={shown(value[0])}" if len(value) == 1 else "; it takes one, not a list"


def _value_at(values: Mapping[str, Any], name: str) -> Any:
    value: Any = values
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _described(option: Option) -> str:
    return f"a value of type {type_name(option.type)} ({option.help})"


def _is_list(option: Option) -> bool:
    return typing.get_origin(option.type) is list


def _escaped(value: Any) -> Any:
    """Values in which `${` means itself: what is saved has been resolved already."""
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def first_line(error: Exception) -> str:
    """The first line of an exception's message."""
    return str(error).partition("\n")[0]


def one_line(error: Exception) -> str:
    """The message without line breaks, Hydra's list of directories, and advice that does not hold here."""
    return " ".join(re.split("Config search path|To append to", str(error))[0].split()).rstrip(".")
