"""From words of the command line to a checked and typed config.

Hydra composes the YAML; the dataclasses of `asr.config` decide what is allowed in it (`asr.config.schema`). Names are
checked before Hydra runs, so that a misspelt option costs no time. Every refusal is an `InputError` of one line.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tempfile
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import yaml  # type: ignore[import-untyped]
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.config import COMMANDS, VARIANTS
from asr.config.loss import load_installed
from asr.config.saved import parse, text_of
from asr.config.schema import finished, first_line, is_section, list_options, one_line, typed, unknown
from asr.errors import InputError, naming
from asr.options import Option, choose, flatten, require_effect, shown, with_home, without_effect

HOME_IN_LIST = re.compile(r"(?<=[\[,])\s*~[^,\]]*")  # a path that begins with the home directory, not quoted

RUNS = "callbacks", "env", "hydra_logging", "job_logging", "launcher", "sweeper"  # sections of what Hydra runs, and how
TRAIN = "train"
RUN_CONFIG = "config.yaml"  # of a run directory


def conf_directory() -> Path:
    """The framework's own configs: inside the package when installed, else beside it in the repository."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def search_directories(config_dir: Path | None) -> list[Path]:
    """Where configs are looked for, the recipe's directory before the framework's."""
    if config_dir is None:
        return [conf_directory()]
    config_dir = Path(with_home(str(config_dir), "config directory "))
    if not config_dir.is_dir():
        raise InputError(f"config directory {config_dir}: not found; give a directory of YAML configs")
    for path in configs_in(config_dir):
        with naming(str(path)):
            text_of(path)
    return [config_dir.resolve(), conf_directory()]


def configs_in(directory: Path) -> list[Path]:
    """The YAML of a directory and of its groups, which nobody need have looked at before Hydra reads it."""
    groups = {name.partition("/")[0] for schema in COMMANDS.values() for name, _ in _sections(schema)}
    below = (path for group in sorted(groups) for path in (directory / group).rglob("*.yaml"))
    return [*directory.glob("*.yaml"), *below]


def list_groups(command: str, directories: Sequence[Path]) -> dict[str, list[str]]:
    """The config groups of a command with their choices, from all directories."""
    load_installed()
    sections = dict(_sections(COMMANDS[command]))
    groups = {
        name: _choices(name, directories, list(sections), VARIANTS.get(hint, {})) for name, hint in sections.items()
    }
    return {name: choices for name, choices in groups.items() if choices}


def _sections(schema: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """The sections of a schema and their classes, `loss/arcs` for one in another."""
    for name, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint):
            yield f"{prefix}{name}", typing.cast(type, hint)
            yield from _sections(typing.cast(type, hint), f"{prefix}{name}/")


def compose(
    command: str, overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None
) -> Any:
    """The config of `command`: an object of the class `COMMANDS[command]`, checked.

    `config_dir` comes before the framework's own directory, and its primary config `config_name` (by default
    the command's) usually begins with `defaults: [train, {override model: tiny}, _self_]`. A training that is to go on
    has by default the config of its run.
    """
    config = finished(compose_tree(command, overrides, config_dir, config_name), command)
    require_effect(config, _names(overrides))
    return config


def compose_tree(
    command: str, overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None
) -> DictConfig:
    """Like `compose`, but mandatory values may still be missing, and ranges are not checked yet."""
    run = _run_to_go_on_with(overrides) if command == TRAIN and config_name is None else None
    if run is not None:
        return _compose_over(run, overrides, config_dir)
    return _compose_anew(command, overrides, config_dir, config_name)


def _compose_anew(
    command: str, overrides: Sequence[str], config_dir: Path | None, config_name: str | None
) -> DictConfig:
    directories = search_directories(config_dir)
    name = (config_name or command).removesuffix(".yaml")
    home_first = _home_first(name, directories)
    words = _hydra_overrides(command, overrides, directories)
    if command == TRAIN and is_resumable(home_first[0]) and name == Path(RUN_CONFIG).stem:
        # A run's own config, in a directory that may be a copy: not the one whose name is in it.
        words = [f"++run={quoted(str(home_first[0]))}", *words]
    return typed(_composed(command, name, home_first, words), command)


# A run that goes on


def is_resumable(run: Path) -> bool:
    """Whether a directory is a run's, with a config and something to go on from."""
    return (run / RUN_CONFIG).is_file() and any((run / "checkpoints").glob("st*-*"))


def _run_to_go_on_with(overrides: Sequence[str]) -> Path | None:
    """The run directory that the words name, if there is one to go on with."""
    options = list_options(COMMANDS[TRAIN])
    named = [text for text in overrides if text.partition("=")[0].lstrip("+") == "run"]
    run = Path(str(_parse(named[-1], options).value())) if named else None
    return run if run is not None and is_resumable(run) else None


def _compose_over(run: Path, overrides: Sequence[str], config_dir: Path | None) -> DictConfig:
    """The config of a run, with what the words change in it. Of a group that they choose nothing is kept."""
    directories = search_directories(config_dir)
    words = _hydra_overrides(TRAIN, overrides, directories)
    chosen = {word.partition("=")[0] for word in words if not word.startswith("++")}
    kept = _read_saved(run / RUN_CONFIG)
    for *sections, last in (group.split("/") for group in chosen):
        functools.reduce(lambda values, name: values.get(name, {}), sections, kept).pop(last, None)
    with tempfile.TemporaryDirectory() as home:
        Path(home, RUN_CONFIG).write_text(OmegaConf.to_yaml({"defaults": ["_self_"], **kept}), encoding="utf-8")
        added = [word if word.startswith("++") else f"+{word}" for word in words]
        composed = _composed(TRAIN, Path(RUN_CONFIG).stem, [Path(home), *directories], added)
    return typed(composed, TRAIN)


def _read_saved(path: Path) -> dict[Any, Any]:
    """The values of a run's config, all of them options: Hydra would take others for directions of its own."""
    try:
        saved = parse(text_of(path))
        typed(saved, TRAIN)
    except (InputError, OSError) as error:
        raise InputError(f"{path}: no config of a run ({error}); give another run=") from None
    if not saved:
        raise InputError(f"{path}: no config of a run; give another run=")
    return typing.cast(dict[Any, Any], OmegaConf.to_container(saved))


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Combinations of values of options.

    first: the config of the first. values: by option, the override `OPTION=VALUE` for each of its values.
    overrides: of all of them, as Hydra is to see them.
    """

    first: Any
    values: dict[str, list[str]]
    overrides: list[str]


def compose_sweep(
    command: str, overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None
) -> Sweep:
    """The sweep over options with several values, `optim.lr=1e-3,2e-3` or `optim.warmup_steps=range(100,500,100)`.

    Each value is checked as `compose` does, with the first of every other option. Of an option that is given more
    than once the last counts.
    """
    last = {text.partition("=")[0].lstrip("+"): text for text in overrides}
    readings = {text: _read(text) for text in last.values()}
    several = {text: one for text, one in readings.items() if one and (one.is_choice_sweep() or one.is_range_sweep())}
    fixed = [text for text in last.values() if text not in several]
    values = {_name(one): [f"{_name(one)}={v}" for v in one.sweep_string_iterator()] for one in several.values()}
    for name in (name for name, choices in values.items() if not choices):
        raise InputError(f"{last[name]}: there is no value in it; give at least one")
    if "run" in values:
        raise InputError("run: one directory is needed, in which each training has its own")
    first = [choices[0] for choices in values.values()]
    others = [choice for choices in values.values() for choice in choices[1:]]
    combinations = [[*fixed, *first, *other] for other in ([], *([choice] for choice in others))]
    checked = [finished(_compose_anew(command, words, config_dir, config_name), command) for words in combinations]
    idle = [without_effect(config, _names(last)) for config in checked]
    for name in set.intersection(*map(set, idle)):
        raise InputError(f"{idle[0][name]}: give that, too, or leave this out")
    directories = search_directories(config_dir)
    groups = list_groups(command, directories)
    swept = [f"{'' if _name(one) in groups else '++'}{_name(one)}={_value_text(text)}" for text, one in several.items()]
    return Sweep(checked[0], values, [*_hydra_overrides(command, fixed, directories), *swept])


@contextmanager
def hydra_at_home(command: str, config_dir: Path | None, config_name: str | None) -> Iterator[tuple[str, str]]:
    """Hydra, initialized; yields the name of the primary config, and the override that has it find all the others."""
    name = (config_name or command).removesuffix(".yaml")
    with _initialized(_home_first(name, search_directories(config_dir))) as search_path:
        yield name, search_path


def require_own(command: str, overrides: Sequence[str], config_dir: Path | None, config_name: str | None) -> None:
    """Raise InputError where a config directory tells Hydra what to run: that is for the command line to say."""
    ours = [word for word in overrides if word.lstrip("+").startswith("hydra")]
    found, wanted = of_hydra(command, overrides, config_dir, config_name), of_hydra(command, ours, None, None)
    for name in (name for name in found if found[name] != wanted.get(name)):
        raise InputError(f"hydra.{name}={shown(found[name])}: is set in {config_dir}; give it on the command line")


def of_hydra(
    command: str, overrides: Sequence[str], config_dir: Path | None, config_name: str | None
) -> dict[str, Any]:
    """What Hydra would run beside the trainings, and how, by full name."""
    with hydra_at_home(command, config_dir, config_name) as (name, search_path):
        try:
            running = GlobalHydra.instance().hydra
            assert running is not None
            composed = running.compose_config(name, [search_path, *overrides], RunMode.MULTIRUN).hydra
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(f"--multirun: {' '.join(str(error).split())}") from error
    return flatten({name: OmegaConf.to_container(composed[name]) for name in RUNS})


# Command line


def _hydra_overrides(command: str, overrides: Sequence[str], directories: Sequence[Path]) -> list[str]:
    options, groups = list_options(COMMANDS[command]), list_groups(command, directories)
    return [_hydra_override(text, command, options, groups) for text in overrides]


def _hydra_override(text: str, command: str, options: Mapping[str, Option], groups: Mapping[str, list[str]]) -> str:
    """The override as Hydra is to see it, if what it names exists."""
    override = _parse(text, options)
    name = _name(override)
    if name not in options and name not in groups and not is_section(name, options):
        raise unknown(text, name, command, [*options, *groups])
    if override.is_delete():
        raise InputError(f"{text}: options cannot be removed; give {name} another value")
    if override.is_sweep_override():
        raise InputError(f"{text}: one value is needed; a list is written {name}=[{_value_text(text)}]")
    if name in groups:
        return _group_override(name, override.value(), groups[name])
    # Forced, because a recipe's config need not mention every option: the schema has them all.
    return f"++{name}={_value_text(override.input_line or text)}"


def _parse(text: str, options: Mapping[str, Option]) -> Override:
    """The override in Hydra's reading; what it cannot read is text where an option is, and so is `~/a` in a list."""
    key, _, value = text.partition("=")
    option = options.get(key.lstrip("+"))
    override = _read(text)
    if option is not None and option.type is str and not _is_text(override):
        override = _read(f"{key}={quoted(value)}")
    if override is None and option is not None and option.path and not value.startswith("["):
        override = _read(f"{key}={quoted(value)}")
    if override is None and option is not None and option.path:
        override = _read(f"{key}={HOME_IN_LIST.sub(lambda at: quoted(at[0].strip()), value)}")
    if override is None:
        raise InputError(_malformed(text))
    return override


def _read(text: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None


def _name(override: Override) -> str:
    return override.get_key_element().lstrip("+~")  # with `@package`, which no option has


def _names(overrides: Iterable[str]) -> list[str]:
    """The options and groups that words of a command line give a value."""
    return [text.partition("=")[0].lstrip("+") for text in overrides]


def _is_text(override: Override | None) -> bool:
    """Whether Hydra read no number (`run=007`), sweep (`run=a,b`) or error (`run=é`) where text is wanted."""
    if override is None or override.is_sweep_override():
        return False
    return not isinstance(override.value(), (bool, int, float))


def _malformed(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not (equals and re.fullmatch(r"[+~]*[\w./@-]+", key)):
        return f"{text}: not of the form key=value"
    return f"{text}: the value cannot be read; text in it may need quotes, as in \"{key}=['a (1)','b']\""


def _group_override(group: str, choice: Any, choices: list[str]) -> str:
    if str(choice) not in choices:
        raise InputError(f"{group}={shown(choice)}: unknown choice; {choose(shown(choice), choices)}")
    return f"{group}={choice}"


def _value_text(text: str) -> str:
    return text.partition("=")[2].strip()


# Hydra


def _choices(group: str, directories: Sequence[Path], groups: Sequence[str], variants: Iterable[str]) -> list[str]:
    """The choices of a group, by their YAML, not those of groups in it; and its variants without, such as losses that
    were registered."""
    inner = tuple(f"{other.removeprefix(f'{group}/')}/" for other in groups if other.startswith(f"{group}/"))
    found = {
        path.relative_to(directory / group).with_suffix("").as_posix()
        for directory in directories
        for path in (directory / group).rglob("*.yaml")
    }
    found = {choice for choice in found if not choice.startswith(inner)}
    for name in set(variants) - found:
        ConfigStore.instance().store(group=group, name=name, node={"name": name})
    return sorted(found.union(variants))


def _home_first(name: str, directories: Sequence[Path]) -> list[Path]:
    """The directories, first the one that holds the primary config: Hydra looks for it nowhere else."""
    homes = [directory for directory in directories if (directory / f"{name}.yaml").is_file()]
    if homes:
        return list(dict.fromkeys([homes[0], *directories]))
    names = sorted({path.stem for directory in directories for path in directory.glob("*.yaml")})
    raise InputError(
        f"config name {name}: no {name}.yaml in {' or '.join(map(str, directories))}; {choose(name, names)}"
    )


def _composed(command: str, name: str, directories: list[Path], overrides: list[str]) -> DictConfig:
    try:
        return _run_hydra(name, directories, overrides)
    except (ConfigCompositionException, RecursionError) as error:
        if isinstance(error.__cause__, OmegaConfBaseException):
            cause = first_line(error.__cause__)
            raise InputError(f"{one_line(error)}: {cause}; a plain ${{ is \\${{") from None
        form = f"its defaults should have the form [{command}, {{override GROUP: CHOICE}}, _self_]"
        raise InputError(f"config {name}: {one_line(error)}; {form}") from None
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeError) as error:
        raise InputError(f"config {name}: {one_line(error)}") from None


def _run_hydra(name: str, directories: list[Path], overrides: list[str]) -> DictConfig:
    with _initialized(directories) as search_path, warnings.catch_warnings():
        # A recipe without `_self_` gets it at the end of its defaults, which is what it must mean.
        warnings.filterwarnings("ignore", message="(?s).*missing `_self_`")
        return hydra.compose(name, overrides=[search_path, *overrides])


@contextmanager
def _initialized(directories: Sequence[Path]) -> Iterator[str]:
    """Hydra with the first directory for its home; yields the override that adds the others."""
    more = ",".join(quoted(f"file://{directory}") for directory in directories[1:])
    with hydra.initialize_config_dir(str(directories[0]), job_name="asr", version_base="1.3"):
        yield f"hydra.searchpath=[{more}]"


def quoted(text: str) -> str:
    """The text as a string of Hydra's grammar, where backslashes count before quotes only."""
    return "'" + re.sub(r"(\\*)('|$)", lambda at: 2 * at[1] + at[2].replace("'", "\\'"), text) + "'"


# Schema


# Values


# Words
