"""The config of a command: what is composed, and what is refused in which words."""

import dataclasses
import warnings
from operator import attrgetter
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from asr.cli.compose import compose, compose_sweep, compose_tree, conf_directory, list_groups, search_directories
from asr.config import (
    ARCS,
    COMMANDS,
    LOSSES,
    SEARCHES,
    DataOptions,
    GreedyOptions,
    LossOptions,
    OptimOptions,
    PrunedLossOptions,
    StandardArcOptions,
    TdtArcOptions,
    TrainConfig,
    TrainOptions,
)
from asr.config.schema import from_yaml, list_options, to_yaml
from asr.errors import InputError
from asr.options import nearest

MANDATORY = {
    "manifest": ["input=i", "output=o"],
    "align": ["aligner=ctc", "cuts=c", "output=o"],
    "attach": ["words=w", "cuts=c", "output=o"],
    "segment": ["cuts=c", "output=o"],
    "splice": ["cuts=c", "output=o", "audio=a"],
    "tokenizer": ["output=o"],
    "lm": ["tokenizer=t", "output=o"],
    "features": ["cuts=c", "output=o", "storage=s"],
    "shar": ["cuts=c", "output=o"],
    "preflight": [],
    "validate": [],
    "train": ["run=r"],
    "decode": ["run=r", "cuts=c", "output=o"],
    "transcribe": ["run=r"],
    "plot": ["run=r", "cuts=c", "output=o"],
    "export": ["run=r", "output=o"],
    "package": ["run=r", "output=o"],
    "score": ["hypotheses=h", "output=o"],
    "compare": [],
    "report": ["output=o"],
}
TRAIN = "defaults: [train, _self_]\nrun: r\n"  # a recipe's config begins like this
FILES = sorted([*conf_directory().glob("*/*.yaml"), *conf_directory().glob("*/*/*.yaml")])
CHOICES = [  # all of `asr train`'s, and one of a group for commands that take its options as they are
    (command, group, choice)
    for command in COMMANDS
    for group, choices in list_groups(command, [conf_directory()]).items()
    for choice in (choices if COMMANDS[command].__base__ is object else choices[:1])
]


@dataclasses.dataclass
class OtherLossOptions(LossOptions):
    """A second loss, with an option of its own."""

    name: str = "other"
    band: int = 5


NEEDED = {
    "train": ["run=r", "data.train_cuts=[a]", "data.valid_cuts=[b]", "data.tokenizer=t"],
    "decode": ["run=r", "cuts=c", "output=o"],
    "transcribe": ["run=r"],
    "align": ["aligner=pocketsphinx", "cuts=c", "output=o"],
    "export": ["run=r", "output=o"],
    "manifest": ["input=i", "output=o"],
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe's config directory (its name is a hard one) with a primary config and a model of its own."""
    directory = tmp_path / "a recipe's, {conf}"
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "mine.yaml").write_text("defaults: [tiny, _self_]\nlayers: 3\n")
    (directory / "digits.yaml").write_text(
        "defaults:\n  - train\n  - override model: tiny\n  - override train: debug\n  - _self_\n"
        "run: exp/digits\noptim: {lr: 0.5}\n"
    )
    return directory


def refusal(command: str, overrides: list[str], config_dir: Path | None = None, config_name: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        compose(command, overrides, config_dir, config_name)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert not GlobalHydra.instance().is_initialized()
    return message


def recipe_refusal(recipe: Path, text: str) -> str:
    (recipe / "broken.yaml").write_text(text)
    return refusal("train", [], config_dir=recipe, config_name="broken")


# What is composed


TEXT = {  # options of text that are no paths
    *("name", "checkpoint", "scheduler", "utterance", "by"),
    *("audio_column", "text_column", "speaker_column", "split"),
    *("init_checkpoint", "init_except", "freeze", "corpus", "licence"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_home_directory_takes_the_place_of_its_mark_in_every_path(command, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    hints = {"decode": SEARCHES["beam"], "loss": LOSSES["full"], "loss.arcs": ARCS["standard"]}
    options = list_options(COMMANDS[command], hints).values()
    free = [one for one in options if one.type in (str, list[str]) and not one.choices]
    paths = [one for one in free if one.name.rpartition(".")[2] not in TEXT]
    assert all(one.path for one in paths)
    assert sum(one.path for one in options) == len(paths)
    given = [f"{one.name}={'~/a' if one.type is str else '[~/a, b,~/c (1)/é]'}" for one in paths]
    beam = ["decode=beam"] if any(one.name == "decode.lm" for one in paths) else []
    others = [word for word in MANDATORY[command] if word.partition("=")[0] not in {one.name for one in paths}]
    config = compose(command, [*beam, *others, *given])
    for one in paths:
        value = attrgetter(one.name)(config)
        assert value == (f"{tmp_path}/a" if one.type is str else [f"{tmp_path}/a", "b", f"{tmp_path}/c (1)/é"])


def test_a_mapping_is_given_as_one_and_its_values_are_checked() -> None:
    config = compose("train", ["run=r", "optim.lr_factors={encoder.*: 0.1, joiner: 2}"])
    assert config.optim.lr_factors == {"encoder.*": 0.1, "joiner": 2.0}
    assert from_yaml(to_yaml(config), "train") == config
    assert "optim.lr_factors={'a': -1.0}: must be >= 0 (" in refusal("train", ["run=r", "optim.lr_factors={a: -1}"])
    for value, shown in (("{a: b}", "{'a': 'b'}"), ("0.1", "0.1")):
        refused = refusal("train", ["run=r", f"optim.lr_factors={value}"])
        assert f"optim.lr_factors={shown}: needs a value of type {{str: float}} (what rates are" in refused


def test_a_mark_that_is_no_home_directory_is_refused(recipe, monkeypatch) -> None:
    message = "data.train_cuts=~nobody-of-that-name/a: no such home directory; what is called so is written ./~nobody-"
    assert message in refusal("train", ["run=r", "data.train_cuts=[~/a,~nobody-of-that-name/a]"])
    assert compose("train", ["run=./~a"]).run == "./~a"
    monkeypatch.setenv("HOME", str(recipe.parent))
    marked = Path("~") / recipe.name
    assert compose("train", ["run=r"], config_dir=marked, config_name="digits").optim.lr == 0.5
    assert "config directory ~nobody-of-that-name: no such home" in refusal(
        "train", ["run=r"], config_dir=Path("~nobody-of-that-name")
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes_to_its_schema(command: str) -> None:
    assert type(compose(command, MANDATORY[command])) is COMMANDS[command]


@pytest.mark.parametrize(("command", "group", "choice"), CHOICES)
def test_every_choice_of_every_group_is_valid(command: str, group: str, choice: str) -> None:
    assert compose(command, [*MANDATORY[command], f"{group}={choice}"]) is not None


def test_every_loss_has_a_choice_of_its_name() -> None:
    assert list_groups("train", [conf_directory()])["loss"] == sorted(LOSSES)


@pytest.mark.parametrize(
    ("section", "defaults"),
    [("data", DataOptions()), ("optim", OptimOptions()), ("train", TrainOptions()), ("decode", GreedyOptions())],
)
def test_yaml_defaults_are_the_schemas(section: str, defaults: object) -> None:
    assert getattr(compose("train", ["run=r"]), section) == defaults


@pytest.mark.parametrize("command", ["tokenizer", "lm", "features", "decode", "transcribe", "score"])
def test_defaults_of_small_commands_are_the_schemas(command: str) -> None:
    values = dict(word.split("=") for word in MANDATORY[command])
    assert compose(command, MANDATORY[command]) == COMMANDS[command](**values)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_choices_are_whole_or_build_on_another(file: Path) -> None:
    values = OmegaConf.load(file)
    group = file.parent.name
    variants = {"loss": LOSSES, "arcs": ARCS, "decode": SEARCHES}
    schema = variants[group][file.stem] if group in variants else type(getattr(TrainConfig(), group))
    groups_inside = {path.name for path in file.parent.iterdir() if path.is_dir()}
    options = {field.name for field in dataclasses.fields(schema)} - groups_inside
    assert "defaults" in values or set(values) == options


@pytest.mark.parametrize("name", ARCS)
def test_arcs_of_a_loss_are_a_group_of_their_own(recipe: Path, name: str) -> None:
    config = compose("train", ["loss=pruned", f"loss/arcs={name}"], recipe, "digits")
    assert config.loss == PrunedLossOptions(arcs=ARCS[name]())
    assert from_yaml(to_yaml(config), "train") == config


def test_arcs_are_no_loss_and_their_options_have_the_arcs_name() -> None:
    assert refusal("train", ["run=r", "loss=arcs/tdt"]).startswith("loss=arcs/tdt: unknown choice")
    message = refusal("train", ["run=r", "loss.arcs.durations=[0,1]"])
    assert message.startswith("loss.arcs.durations=[0, 1]: unknown option; there is one of loss/arcs=tdt")
    message = refusal("train", ["run=r", "loss/arcs=tdt", "loss.arcs.durations=[0,-1]"])
    assert message.startswith("loss.arcs.durations=[0, -1]: must be >= 0")
    assert "did you mean tdt" in refusal("train", ["run=r", "loss/arcs=td"])
    config = compose("train", ["run=r", "loss/arcs=tdt", "loss.arcs.durations=[0,1]"])
    assert config.loss.arcs == TdtArcOptions(durations=[0, 1])


def test_a_config_saved_before_greedy_search_had_scorers_has_none() -> None:
    text = "run: r\ndecode: {name: greedy, max_seconds: 200.0, batch_size: null, max_symbols_per_frame: 5}\n"
    assert from_yaml(text, "train").decode == GreedyOptions()
    assert from_yaml("run: r\ndecode: {name: beam, beam: 8, lm: a.arpa}\n", "train").decode.blank_penalty == 0


def test_a_config_saved_without_arcs_has_the_standard_ones() -> None:
    assert from_yaml("run: r\nloss: {name: optimized}\n", "train").loss.arcs == StandardArcOptions()


def test_overrides_reach_the_config() -> None:
    config = compose(
        "train",
        [
            "run=r",
            "model=tiny",
            "optim.lr=0.5",
            "data.train_cuts=[a,b]",
            "data.spec_augment={time_masks: 0}",
            "data.tokenizer=${run}/tokenizer",
        ],
    )
    assert (config.model.joiner_dim, config.optim.lr, config.data.train_cuts) == (128, 0.5, ["a", "b"])
    assert (config.data.spec_augment.time_masks, config.data.spec_augment.frequency_masks) == (0, 2)
    assert config.data.tokenizer == "r/tokenizer"


@pytest.mark.parametrize("prefix", ["+", "++"])
def test_prefixes_of_existing_keys_are_harmless(prefix: str) -> None:
    config = compose("train", ["run=r", f"{prefix}model=tiny", f"{prefix}optim.lr=0.5"])
    assert (config.model.joiner_dim, config.optim.lr) == (128, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "007",
        "1e5",
        "true",
        "1.50",
        "a b",
        "exp/x=y",
        "2024-01-01",
        "é",
        "a,b",
        "a(b",
        "x'",
        'it\'s, "(x)"',
        "a\\'b, c\\",
    ],
)
def test_text_stays_as_written(text: str) -> None:
    assert compose("train", [f"run={text}"]).run == text


def test_quoted_text_may_hold_anything() -> None:
    assert compose("train", ["run='a(b),c'"]).run == "a(b),c"


def test_nothing_of_hydra_stays_behind() -> None:
    compose("train", ["run=r"])
    assert not GlobalHydra.instance().is_initialized()


# Recipes


def test_recipe_builds_on_the_frameworks_config(recipe: Path) -> None:
    config = compose("train", [], recipe, "digits")
    assert (config.run, config.model.joiner_dim, config.train.steps) == ("exp/digits", 128, 10)
    assert config.optim == OptimOptions(lr=0.5)


def test_command_line_wins_over_the_recipe(recipe: Path) -> None:
    config = compose("train", ["run=r", "model=large", "train=default", "optim.lr=2"], recipe, "digits.yaml")
    assert (config.run, config.optim.lr, config.model.layers, config.train.steps) == ("r", 2.0, 12, 2000)


def test_recipe_has_groups_of_its_own(recipe: Path) -> None:
    assert compose("train", ["model=mine"], recipe, "digits").model.layers == 3
    assert compose("train", ["run=r", "model=mine"], recipe).model.layers == 3
    assert "mine" in list_groups("train", search_directories(recipe))["model"]


def test_recipe_without_self_needs_no_warning(recipe: Path) -> None:
    (recipe / "short.yaml").write_text("defaults: [train]\nrun: r\noptim: {lr: 0.5}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compose("train", [], recipe, "short").optim.lr == 0.5


def test_recipe_need_not_mention_an_option_to_have_it_set(recipe: Path) -> None:
    (recipe / "bare.yaml").write_text("run: r\n")
    assert compose("train", ["optim.lr=0.5"], recipe, "bare").optim.lr == 0.5


# What is refused: words of the command line


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("lr=1", "optim.lr"),
        ("optim.lrr=1", "optim.lr"),
        ("+optim.lrr=1", "optim.lr"),
        ("++optim.lrr=1", "optim.lr"),
        ("~optim.lrr", "optim.lr"),
        ("otpim.lr=1", "optim.lr"),
        ("modle=tiny", "model"),
        ("model@extra=tiny", "model"),
        ("optim.betas.0=0.5", "optim.betas"),
        ("time_mask=3", "data.spec_augment.time_masks"),
        ("hydra.run.dir=x", "asr train --help"),
        ("model._target_=os.system", "asr train --help"),
        ("+model._target_=os.system", "asr train --help"),
    ],
)
def test_unknown_option(override: str, expected: str) -> None:
    message = refusal("train", ["run=r", override])
    assert message.startswith(f"{override}: unknown option")
    assert expected in message


@pytest.mark.parametrize("choice", ["tinny", "Tiny", "tin"])
def test_unknown_choice(choice: str) -> None:
    message = refusal("train", ["run=r", f"model={choice}"])
    assert message.startswith(f"model={choice}: unknown choice; did you mean tiny?")
    assert "conformer_l, conformer_m, conformer_s, debug, large, medium, small, tiny" in message


@pytest.mark.parametrize(
    "override", ["model=null", "model=[tiny,small]", "model={_target_: x}", "model=", "model=../train"]
)
def test_only_a_name_is_a_choice(override: str) -> None:
    message = refusal("train", ["run=r", override])
    assert "unknown choice; " in message
    assert "choices: conformer_l" in message


@pytest.mark.parametrize(
    ("override", "value", "kind"),
    [
        ("optim.lr=abc", "abc", "float (peak learning rate)"),
        ("optim.lr=", "", "float"),
        ("optim.lr=null", "null", "float"),
        ("optim.lr=[1]", "[1]", "float"),
        ("optim.lr={a: 1}", "{'a': 1}", "float"),
        ("train.steps=2.5", "2.5", "int"),
        ("train.steps=true", "true", "int"),
        ("data.max_utterances=many", "many", "int or null"),
        ("optim.betas=[0.9,x]", "[0.9, 'x']", "list of float"),
        ("run=null", "null", "str"),
        ("run=[a]", "['a']", "str"),
    ],
)
def test_wrong_type(override: str, value: str, kind: str) -> None:
    message = refusal("train", ["run=r", override])
    assert message.startswith(f"{override.partition('=')[0]}={value}: ")
    assert f"needs a value of type {kind}" in message


@pytest.mark.parametrize("path", ["data/a.jsonl.gz", "~/a.jsonl.gz", "a b (1).jsonl.gz"])
def test_one_path_is_as_good_as_a_list_of_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert compose("tokenizer", [f"cuts={path}", "output=o"]).cuts == [path.replace("~", "/home/me")]
    assert compose("train", [*NEEDED["train"], f"data.valid_cuts={path}"]).data.valid_cuts == [
        path.replace("~", "/home/me")
    ]


def test_one_value_for_a_list_and_a_list_for_one_are_refused_with_what_to_write() -> None:
    assert refusal("train", ["run=r", "data.train_cuts=a,b"]).endswith("written data.train_cuts=[a,b]")
    assert refusal("train", ["run=r", "data.speed_factors=x"]).endswith("write data.speed_factors=[x]")
    assert refusal("decode", ["run=r", "output=o", "cuts=[data/a.gz]"]).endswith("write cuts=data/a.gz")
    assert refusal("decode", ["run=r", "output=o", "cuts=[a,b]"]).endswith("it takes one, not a list")


@pytest.mark.parametrize(
    ("override", "bounds"),
    [
        ("optim.lr=-1", ">= 0"),
        ("optim.lr=nan", ">= 0"),
        ("optim.lr=inf", ">= 0"),
        ("optim.final_lr=1.5", "0 to 1"),
        ("optim.betas=[0.9,2]", "0 to 0.9999"),
        ("optim.betas=[0.9]", "needs 2 values"),
        ("optim.betas=[0.9,0.98,0.99]", "needs 2 values"),
        ("data.spec_augment.time_masks=9223372036854775808", "0 to 100"),
        ("data.speed_factors=[1.0,0.1]", "0.5 to 2"),
        ("data.spec_augment.time_mask_share=-0.1", "0 to 1"),
        ("data.max_utterances=0", ">= 1"),
    ],
)
def test_outside_the_range(override: str, bounds: str) -> None:
    message = refusal("train", ["run=r", override])
    assert message.startswith(f"{override.partition('=')[0]}=")
    assert bounds in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.device=gpu", "did you mean cpu? choices: auto, cpu, cuda"),
        ("optim.schedule=cosin", "choices: cosine, inverse_sqrt, constant"),
        ("loss.name=ful", "did you mean full? choices: full"),
    ],
)
def test_not_one_of_the_choices(override: str, expected: str) -> None:
    message = refusal("train", ["run=r", override])
    assert message.startswith(f"{override}: ")
    assert expected in message


@pytest.mark.parametrize("overrides", [[], ["run="], ["run=''"]])
def test_missing_value_is_explained(overrides: list[str]) -> None:
    assert refusal("train", overrides).startswith("missing: run=... (directory of this run")


def test_all_missing_values_are_named() -> None:
    message = refusal("decode", ["cuts=c"])
    assert "run=... (run directory" in message
    assert "output=... (directory for" in message
    assert "cuts=" not in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("foo", "not of the form key=value"),
        ("", "not of the form key=value"),
        ("a b=3", "not of the form key=value"),
        ("optim.betas=[0.9", "the value cannot be read; text in it may need quotes"),
        ("data.train_cuts=[é]", "as in \"data.train_cuts=['a (1)','b']\""),
    ],
)
def test_malformed(override: str, expected: str) -> None:
    message = refusal("train", [override])
    assert message.startswith(f"{override}: ")
    assert expected in message


@pytest.mark.parametrize("key", ["optim.lr", "model"])
def test_options_are_not_removed(key: str) -> None:
    message = refusal("train", ["run=r", f"~{key}"])
    assert message == f"~{key}: options cannot be removed; give {key} another value"


@pytest.mark.parametrize("value", ["${nothing}", "${run", "${oc.env:ASR_NO_SUCH_VARIABLE}", "${run}"])
def test_interpolation_without_a_right_value(value: str) -> None:
    assert refusal("train", ["run=r", f"optim.lr={value}"]).startswith(f"optim.lr={value}: ")


def test_malformed_interpolation() -> None:
    message = refusal("train", ["run=a${"])
    assert "run='a${'" in message
    assert message.endswith("a plain ${ is \\${")


def test_options_of_other_commands_are_unknown() -> None:
    assert "unknown option" in refusal("decode", ["model=tiny"])


# What is refused: configs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TRAIN + "optim: {lrr: 1}", "optim.lrr=1: unknown option; did you mean optim.lr?"),
        (TRAIN + "lr: 1", "lr=1: unknown option; did you mean optim.lr?"),
        (TRAIN + "model: {_target_: os.system}", "model._target_=os.system: unknown option"),
        (TRAIN + "3: x", "3=x: unknown option"),
        (TRAIN + "optim: 3", "optim=3: a section"),
        (TRAIN + "optim: {lr: {a: 1}}", "optim.lr={'a': 1}: no section; needs a value of type float"),
        (TRAIN + "optim: {lr: -1}", "optim.lr=-1.0: must be >= 0"),
        (TRAIN + "loss: {name: ful}", "loss.name=ful: unknown loss; did you mean full?"),
        ("defaults: [trian]", "trian"),
        ("defaults: [train, {override model: tinny}]", "tinny"),
        ("defaults: [train, {override modle: tiny}]", "modle"),
        ("defaults: [broken]", "config broken"),
        ("defaults: [train", "broken.yaml"),
        ("- 3", "config broken"),
    ],
)
def test_recipes_are_checked(recipe: Path, text: str, expected: str) -> None:
    assert expected in recipe_refusal(recipe, text)


def test_group_that_a_recipe_lacks(recipe: Path) -> None:
    (recipe / "bare.yaml").write_text("run: r\n")
    message = refusal("train", ["model=tiny"], config_dir=recipe, config_name="bare")
    assert "'model'" in message
    assert "[train, {override GROUP: CHOICE}, _self_]" in message


def test_missing_directory(tmp_path: Path) -> None:
    assert str(tmp_path / "no") in refusal("train", ["run=r"], config_dir=tmp_path / "no")


def test_missing_config(recipe: Path) -> None:
    message = refusal("train", ["run=r"], config_dir=recipe, config_name="digts")
    assert "no digts.yaml in" in message
    assert "did you mean digits?" in message


# Losses


def test_loss_has_the_class_of_its_name(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "other", OtherLossOptions)
    (recipe / "loss").mkdir()
    (recipe / "loss" / "other.yaml").write_text("name: other\nband: 7\n")
    config = compose("train", ["loss=other"], recipe, "digits")
    assert config.loss == OtherLossOptions(band=7)
    assert from_yaml(to_yaml(config), "train") == config


def test_option_of_another_loss_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "other", OtherLossOptions)
    assert "loss.band" in list_options(TrainConfig)
    assert list_options(TrainConfig)["loss.name"].choices == tuple(LOSSES)
    assert refusal("train", ["run=r", "loss=full", "loss.band=3"]).startswith("loss.band=3: unknown option")


# Saved configs


@pytest.mark.parametrize("command", COMMANDS)
def test_round_trip(command: str) -> None:
    config = compose(command, MANDATORY[command])
    assert from_yaml(to_yaml(config), command) == config


def test_round_trip_keeps_hard_values() -> None:
    config = compose(
        "train", ["run=1e5", "optim.lr=1e-7", "data.train_cuts=['été','a, b: c']", "data.tokenizer=é: #'\""]
    )
    assert from_yaml(to_yaml(config), "train") == config


@pytest.mark.parametrize("text", ["${", "${run}", "a\\${b}", "a\\\\${", "\\", "$", "a: #"])
def test_round_trip_keeps_what_looks_like_interpolation(text: str) -> None:
    config = TrainConfig(run=text)
    assert from_yaml(to_yaml(config), "train") == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run: r\noptim: {lrr: 1}", "did you mean optim.lr?"),
        ("run: r\noptim: {lr: -1}", "must be >= 0"),
        ("model: {}", "missing: run=..."),
        ("", "missing: run=..."),
        ("[1]", "not a config"),
        ("a: [", "not YAML"),
    ],
)
def test_saved_configs_are_checked(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        from_yaml(text, "train")
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# Parts


def test_tree_may_lack_mandatory_values() -> None:
    assert OmegaConf.is_missing(compose_tree("train", ["model=tiny"]), "run")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str) -> None:
    assert all(option.help for option in list_options(COMMANDS[command]).values())


def test_nearest_prefers_the_last_component() -> None:
    names = ["optim.lr", "optim.final_lr", "model.layers"]
    assert nearest("lr", names) == ["optim.lr"]
    assert nearest("model.layer", names) == ["model.layers"]
    assert nearest("zzz", names) == []


@pytest.mark.parametrize(
    ("command", "given", "said", "remedy"),
    [
        (
            "decode",
            "decode.lm_weight=0.5",
            "decode.lm_weight=0.5: has no effect without decode.lm=…",
            "decode.lm=x.arpa",
        ),
        ("train", "decode.phrase_boost=2", "has no effect without decode.phrases=…", "decode.phrases=p.txt"),
        (
            "decode",
            "decode.readings=8",
            "without decode.lm=… or decode.internal_lm_weight=… or decode.word_lm=… or decode.word_list=… or decode.",
            "decode.internal_lm_weight=0.1",
        ),
        ("train", "data.noise.snr_db=[5,10]", "has no effect without data.noise.cuts=…", "data.noise.cuts=[n]"),
        ("train", "optim.eden_steps=9", "has no effect without optim.schedule=eden", "optim=scaled_adam"),
        ("train", "data.rooms.longest_t60=1", "without data.rooms.probability=…", "data.rooms.probability=0.1"),
        ("transcribe", "piece_seconds=5", "piece_seconds=5.0: has no effect without streaming=false", None),
        ("align", "checkpoint=last", "without aligner=ctc or transducer", "aligner=transducer"),
        ("export", "left_context=64", "left_context=64: has no effect without streaming=true", "streaming=true"),
        ("manifest", "seed=3", "seed=3: has no effect without split=…", "split=dev:0.1"),
    ],
)
def test_an_option_that_can_do_nothing_is_refused_where_it_is_given(command, given, said, remedy):
    words = [*NEEDED[command], "streaming=true" if remedy is None else given]
    with pytest.raises(InputError) as refused:
        compose(command, [*words, given])
    assert said in str(refused.value)
    compose(command, [*words, given, remedy] if remedy else [*NEEDED[command], given])


def test_what_only_a_config_holds_is_not_refused_for_having_no_effect(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [decode, _self_]\ndecode: {lm_weight: 0.5}\n")
    assert compose("decode", NEEDED["decode"], tmp_path, "mine").decode.lm_weight == 0.5


def test_a_sweep_may_hold_combinations_in_which_an_option_has_no_effect():
    words = [*NEEDED["train"], "optim.eden_steps=10,20"]
    assert len(compose_sweep("train", [*words, "optim.schedule=cosine,eden"]).values) == 2
    with pytest.raises(InputError, match="optim.eden_steps=10.0: has no effect without optim.schedule=eden"):
        compose_sweep("train", words)
