#!/usr/bin/env python3
"""Options that are wrong, and options that are right: each wrong one is refused at once, in one line that helps.

    python scripts/torture/configs.py [--quick]

1,000 command lines and saved configs of every command with one mistake each (--quick: 200), drawn from the schema: a
letter too many, too few, other or moved in a name, a value of another type, out of its range, of no choice, a section
for a value, a value for a section. Each must be refused within a second of this process's time, by an error of one
line that names it; a name with a wrong letter must be answered with the right one. And 500 right ones (--quick: 100),
of random values, must be taken.
"""

from __future__ import annotations

import dataclasses
import random
import string
import sys
import time
import typing
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from asr.cli.compose import compose
from asr.config import COMMANDS, LOSSES, SEARCHES, TrainConfig
from asr.config.arcs import ARCS
from asr.config.schema import from_yaml, list_options, to_yaml
from asr.errors import InputError
from asr.options import MISSING, Option, flatten

SECONDS = 1.0
GIVEN = {"run": "x", "cuts": "x", "output": "x", "aligner": "ctc", "words": "x", "audio": "x", "input": "x"}
GIVEN |= {"tokenizer": "x", "hypotheses": "x", "storage": "x"}
SAVED = to_yaml(TrainConfig(run="x"))
Mistake = tuple[str, list[str], str]  # the command, its words, and what the error must say


def needed(command: str) -> list[str]:
    """The words without which a command is refused."""
    wanted = (one for one in list_options(COMMANDS[command]).values() if one.default == MISSING)
    return [f"{one.name}={GIVEN[one.name]}" for one in wanted if "." not in one.name]


def kinds_of(option: Option) -> tuple[Any, ...]:
    """The types that a value may have."""
    return typing.get_args(option.type) or (option.type,)


def is_number(option: Option) -> bool:
    """Whether a value is a number, or a list of such."""
    return bool({int, float} & set(kinds_of(option))) and bool not in kinds_of(option)


def misspelt(rng: random.Random, name: str) -> str:
    """A name with one letter wrong."""
    at = rng.randrange(name.rfind(".") + 1, len(name))
    letter = rng.choice(string.ascii_lowercase)
    kind = rng.randrange(4)
    if kind == 0:
        return name[:at] + letter + name[at:]
    if kind == 1:
        return name[:at] + name[at + 1 :]
    if kind == 2:
        return name[:at] + letter + name[at + 1 :]
    return name[:at] + name[at + 1 : at + 2] + name[at : at + 1] + name[at + 2 :]


# What is wrong


def wrong_name(rng: random.Random, command: str, option: Option) -> Mistake | None:
    """A name with a wrong letter."""
    name = misspelt(rng, option.name)
    known = {*list_options(COMMANDS[command]), *(one.rpartition(".")[0] for one in list_options(COMMANDS[command]))}
    short = len(option.name.rpartition(".")[2]) < 4  # of which a letter is too much to tell
    if name in known or short or name.endswith(".") or not name.rpartition(".")[2][:1].isalpha():
        return None
    return command, [f"{name}=1"], f"{option.name}"


def wrong_type(rng: random.Random, command: str, option: Option) -> Mistake | None:
    """Text for a number, and so on."""
    if option.type is str or str in kinds_of(option):
        return None
    return command, [f"{option.name}={rng.choice(['many', '2x', '{a: 1}'])}"], option.name


def out_of_range(rng: random.Random, command: str, option: Option) -> Mistake | None:
    """A number that is too small, too large, or none."""
    if not is_number(option) or typing.get_origin(option.type) is dict:
        return None
    values = [option.low - 1 if option.low is not None else -2e9, 1e21, 2**63]
    values += [option.high + 1] if option.high is not None and option.high < 2**62 else []
    values += ["nan", "inf"] if float in kinds_of(option) else []
    value = rng.choice(values)
    return command, [f"{option.name}={[value] if typing.get_origin(option.type) is list else value}"], option.name


def wrong_choice(rng: random.Random, command: str, option: Option) -> Mistake | None:
    """A choice with a wrong letter."""
    if not option.choices or typing.get_origin(option.type) is list or option.name.endswith("name"):
        return None
    if option.name not in flatten(dataclasses.asdict(COMMANDS[command]())):  # of a loss that is not chosen
        return None
    right = rng.choice(option.choices)
    wrong = misspelt(rng, right)
    return None if wrong in option.choices or not wrong.isalpha() else (command, [f"{option.name}={wrong}"], right)


def section(rng: random.Random, command: str, option: Option) -> Mistake | None:
    """A value where a section is, or a section where a value is."""
    if typing.get_origin(option.type) is dict or option.type is str:
        return None
    return command, [f"{option.name}.more=1"], option.name


def removed(rng: random.Random, command: str, option: Option) -> Mistake | None:
    """An option that is to be removed."""
    return command, [f"~{option.name}"], option.name


MISTAKES = (wrong_name, wrong_name, wrong_name, wrong_type, out_of_range, out_of_range, wrong_choice, section, removed)


def mistake(rng: random.Random) -> Mistake:
    """A command line with one mistake."""
    while True:
        command = rng.choice([*COMMANDS, "train", "train", "train"])
        option = rng.choice([*list_options(COMMANDS[command]).values()])
        found: Mistake | None = rng.choice(MISTAKES)(rng, command, option)  # type: ignore[operator]
        if found is not None:
            return found


def refusal(work: Callable[[], Any], said: str) -> str:
    """What is wrong with how something is refused; "" where nothing is."""
    began = time.process_time()
    try:
        work()
    except InputError as error:
        seconds = time.process_time() - began
        if seconds > SECONDS:
            return f"took {seconds:.1f} s"
        if len(str(error).splitlines()) != 1:
            return f"not one line: {error}"
        return "" if said in str(error) else f"does not say {said}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "was taken"


def refused_words(rng: random.Random) -> tuple[str, str]:
    """A command line with a mistake, and what is wrong with its refusal."""
    command, words, said = mistake(rng)
    return f"{command} {' '.join(words)}", refusal(lambda: compose(command, [*needed(command), *words]), said)


def refused_text(rng: random.Random) -> tuple[str, str]:
    """A saved config with a mistake, and what is wrong with its refusal."""
    while True:
        command, words, said = mistake(rng)
        if command == "train" and not words[0].startswith("~"):
            break
    name, _, value = words[0].partition("=")
    values = OmegaConf.create(SAVED)
    try:
        OmegaConf.update(values, name, OmegaConf.create(f"x: {value}").x, force_add=True)
    except Exception:  # a value in a value, which no YAML has
        return refused_words(rng)
    text = OmegaConf.to_yaml(values)
    return f"config.yaml {words[0]}", refusal(lambda: from_yaml(text, "train"), said)


# What is right


def value_of(rng: random.Random, option: Option) -> str:
    """A random value in the range of an option."""
    if option.choices:
        choice = rng.choice(option.choices)
        return f"[{choice}]" if typing.get_origin(option.type) is list else choice
    if bool in kinds_of(option):
        return rng.choice(["true", "false"])
    if is_number(option):
        low = option.low if option.low is not None else -10
        high = min(option.high if option.high is not None else low + 1000, low + 1000)
        whole = float not in kinds_of(option)
        draw = (lambda: rng.randint(int(low), int(high))) if whole else (lambda: round(rng.uniform(low, high), 4))
        if typing.get_origin(option.type) is list:
            return str([draw() for _ in range(option.length or rng.randrange(3))])
        return str(draw())
    words = ["a", "b c", "x.jsonl.gz", "/data/a-b_c", "é"]
    return f"[{rng.choice(words)!r}]" if typing.get_origin(option.type) is list else rng.choice(words)


def right_words(rng: random.Random) -> tuple[str, list[str]]:
    """A command line of random options that are right."""
    command = rng.choice([*COMMANDS, "train", "train", "train"])
    known, words = list_options(COMMANDS[command]), needed(command)
    groups = {}
    if command in ("train", "preflight", "validate"):
        groups = {"loss": rng.choice([*LOSSES]), "loss/arcs": rng.choice([*ARCS]), "decode": rng.choice([*SEARCHES])}
        chosen = {"loss": LOSSES[groups["loss"]], "loss.arcs": ARCS[groups["loss/arcs"]]}
        known = list_options(COMMANDS[command], chosen | {"decode": SEARCHES[groups["decode"]]})
    given = {word.partition("=")[0] for word in words}
    free = [one for one in known.values() if not one.only_with and typing.get_origin(one.type) is not dict]
    free = [one for one in free if one.name not in given and not one.name.endswith("name")]
    free = [one for one in free if not one.name.startswith("decode.") or command in ("train", "preflight", "validate")]
    drawn = rng.sample(free, min(len(free), rng.randint(1, 6)))
    return command, [*(f"{group}={choice}" for group, choice in groups.items()), *words] + [
        f"{one.name}={value_of(rng, one)}" for one in drawn
    ]


def taken(rng: random.Random) -> tuple[str, str]:
    """A right command line, and what is wrong with how it is taken; a training's is saved, and read back."""
    command, words = right_words(rng)
    try:
        config = compose(command, words)
        if command == "train" and from_yaml(to_yaml(config), "train") != config:
            return f"{command} {' '.join(words)}", "is another when it is read back"
    except Exception as error:
        return f"{command} {' '.join(words)}", f"{type(error).__name__}: {error}"
    return f"{command} {' '.join(words)}", ""


def main() -> None:
    """Try them, and print what went wrong."""
    quick, rng = "--quick" in sys.argv[1:], random.Random(0)
    wrong, sound = (200, 100) if quick else (1000, 500)
    draws = [refused_words] * (wrong - wrong // 4) + [refused_text] * (wrong // 4) + [taken] * sound
    compose("train", ["run=x"])  # what is imported only once
    passed = 0
    for draw in draws:
        name, fault = draw(rng)
        passed += not fault
        if fault:
            print(f"FAILED  {name}  {fault}", flush=True)
    print(f"configs: {passed}/{len(draws)}")
    sys.exit(passed < len(draws))


if __name__ == "__main__":
    main()
