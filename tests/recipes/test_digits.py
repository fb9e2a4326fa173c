"""The digits preparation: reproducible, disjoint splits, true word times."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet

from asr.cli.compose import compose
from asr.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = ["--train", "4", "--dev", "1", "--test", "1"]


@pytest.fixture
def prepare(load_prepare):
    return load_prepare("digits")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(prepare, folder, *options):
    prepare.main(["--output", str(folder), *SIZES, *options])
    return contents(folder)


def test_bytes_depend_on_seed_and_not_on_jobs_or_place(prepare, tmp_path):
    one = make(prepare, tmp_path / "a", "--jobs", "1")
    shutil.rmtree(tmp_path / "a")
    assert make(prepare, tmp_path / "a", "--jobs", "2") == one
    elsewhere = make(prepare, tmp_path / "b", "--jobs", "1")
    flacs = [name for name in one if name.endswith(".flac")]
    assert len(flacs) == 6
    assert all(elsewhere[name] == one[name] for name in flacs)
    other_seed = make(prepare, tmp_path / "c", "--jobs", "1", "--seed", "1")
    assert all(other_seed[name] != one[name] for name in flacs)


def test_every_variant_speaks_the_same_after_another_voice(prepare, tmp_path):
    from render import Utterance, render

    for variant in (variant for variants in prepare.VARIANTS.values() for variant in variants):
        utterance = Utterance("u", ("SEVEN", "TWO", "SIX"), f"en-us+{variant}", 0)
        times = [render(utterance, tmp_path / "first.flac")]
        render(Utterance("other", ("ONE",), "en-029+f3", 0), tmp_path / "other.flac")
        times.append(render(utterance, tmp_path / "second.flac"))
        assert times[0] == times[1], variant
        assert (tmp_path / "first.flac").read_bytes() == (tmp_path / "second.flac").read_bytes(), variant


def test_second_run_is_skipped_and_other_arguments_replace(prepare, tmp_path, capsys):
    make(prepare, tmp_path / "a", "--jobs", "1")
    before = (tmp_path / "a" / "prepare.json").stat().st_mtime_ns
    make(prepare, tmp_path / "a", "--jobs", "1")
    assert (tmp_path / "a" / "prepare.json").stat().st_mtime_ns == before
    assert "already prepared" in capsys.readouterr().out
    make(prepare, tmp_path / "a", "--jobs", "1", "--train", "1")
    assert len(list((tmp_path / "a" / "audio").iterdir())) == 3


def test_strings_and_voices_are_disjoint(prepare):
    plan = prepare.plan(0, {"train": 2000, "dev": 100, "test": 200})
    strings = [utterance.words for split in plan.values() for utterance in split]
    assert len(set(strings)) == len(strings) == 2300
    assert {len(words) for words in strings} == {3, 4, 5, 6, 7}
    variants = {split: {u.voice.split("+")[1] for u in plan[split]} for split in plan}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not variants[one] & variants[other]
    assert {u.voice for u in plan["test"]} == set(prepare.voices("test"))
    for split in plan:
        assert {u.voice.split("+")[0] for u in plan[split]} == set(prepare.ACCENTS)


def test_more_training_data_leaves_test_and_dev_as_they_are(prepare):
    small, large = (prepare.plan(0, {"train": n, "dev": 5, "test": 5}) for n in (5, 500))
    assert small["test"] == large["test"]
    assert small["dev"] == large["dev"]


def test_word_times_are_where_the_speech_is(prepare, tmp_path):
    make(prepare, tmp_path, "--jobs", "1")
    for cut in CutSet.from_file(tmp_path / "cuts_train.jsonl.gz"):
        words = cut.supervisions[0].alignment["word"]
        assert " ".join(word.symbol for word in words) == cut.supervisions[0].text
        times = [time for word in words for time in (word.start, round(word.end, 4))]
        assert times == sorted(times)
        assert 0.1 <= times[0] < times[-1] <= cut.duration - 0.09
        audio = cut.load_audio()[0]
        spans = np.split(audio, [int(time * 16000) for time in times])[1:-1]
        power = [np.mean(span**2) for span in spans]
        around = [*audio[: int(times[0] * 16000)], *audio[int((times[-1] + 0.02) * 16000) :]]
        assert min(power[::2]) > 2 * np.mean(np.square(around))


def test_numerals_are_the_same_speech_written_without_blanks(prepare, tmp_path):
    english = make(prepare, tmp_path / "a", "--jobs", "1")
    numerals = make(prepare, tmp_path / "b", "--jobs", "1", "--numerals")
    flacs = [name for name in english if name.endswith(".flac")]
    assert [numerals[name] for name in flacs] == [english[name] for name in flacs]
    for split in ("train", "dev", "test"):
        both = (CutSet.from_file(tmp_path / folder / f"cuts_{split}.jsonl.gz") for folder in ("a", "b"))
        for said, written in zip(*(list(cuts) for cuts in both), strict=True):
            words, characters = (cut.supervisions[0].alignment["word"] for cut in (said, written))
            assert [prepare.NUMERALS[word.symbol] for word in words] == list(written.supervisions[0].text)
            assert [word._replace(symbol=prepare.NUMERALS[word.symbol]) for word in words] == characters
    assert prepare.NUMERALS["THREE"] + prepare.NUMERALS["ZERO"] == "三〇"


def test_a_corpus_in_english_is_not_taken_for_one_in_numerals(prepare, tmp_path):
    make(prepare, tmp_path / "a", "--jobs", "1")
    make(prepare, tmp_path / "a", "--jobs", "1", "--numerals")
    (cut,) = CutSet.from_file(tmp_path / "a" / "cuts_test.jsonl.gz")
    assert set(cut.supervisions[0].text) <= set(prepare.NUMERALS.values())


@pytest.mark.parametrize("numerals", [False, True])
def test_the_recipe_in_numerals_has_data_and_units_of_its_own(tmp_path, numerals):
    """What run.sh calls, by an `asr` and a `python` that say how they were called."""
    for name in ("local/run.sh", "recipes/digits/run.sh", "recipes/digits/conf/numerals.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in ("asr", "python"):
        (tmp_path / "bin" / name).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    script = tmp_path / "recipes" / "digits" / "run.sh"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "ASR_SUPERVISED": "yes"}
    words = ["bash", str(script), *["--numerals"] * numerals]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    called = [line for line in done.stdout.splitlines() if not line.startswith("==")]
    data, config, units, run = (
        ("data/numerals", "numerals", "data/numerals/char kind=char", "exp/numerals")
        if numerals
        else ("data", "digits", "data/bpe kind=bpe vocab_size=60", "exp/transducer")
    )
    assert called == [
        f"python local/prepare.py --output {script.parent / data}" + " --numerals" * numerals,
        f"asr tokenizer cuts=[{data}/cuts_train.jsonl.gz] output={units}",
        *(
            f"asr features cuts={data}/cuts_{split}.jsonl.gz output={data}/fbank/cuts_{split}.jsonl.gz "
            f"storage={data}/fbank/{split}"
            for split in ("train", "dev")
        ),
        f"asr train --config-dir conf --config-name {config} run={run}",
        f"asr decode run={run} cuts={data}/cuts_test.jsonl.gz output={run}/decode_test name={config}_test "
        "checkpoint=average",
    ]


def test_the_config_in_numerals_differs_in_where_the_data_are():
    english, numerals = (
        compose("train", ["run=x"], REPOSITORY / "recipes" / "digits" / "conf", name) for name in ("digits", "numerals")
    )
    assert numerals.data.tokenizer == "data/numerals/char"
    assert numerals.data.train_cuts == ["data/numerals/fbank/cuts_train.jsonl.gz"]
    assert numerals.data.valid_cuts == ["data/numerals/fbank/cuts_dev.jsonl.gz"]
    for name in ("tokenizer", "train_cuts", "valid_cuts"):
        setattr(numerals.data, name, getattr(english.data, name))
    assert numerals == english


def test_cuts_are_16_khz_without_clipping(prepare, tmp_path):
    make(prepare, tmp_path, "--jobs", "1")
    for cut in CutSet.from_file(tmp_path / "cuts_train.jsonl.gz"):
        audio = cut.load_audio()
        assert cut.sampling_rate == 16000
        assert audio.shape == (1, cut.num_samples)
        assert 0.09 < np.abs(audio).max() < 0.9
        assert cut.supervisions[0].speaker.startswith(cut.supervisions[0].language + "+")


def test_resampling_keeps_a_tone(load_prepare):
    load_prepare("digits")
    from render import resample

    original, expected = (
        np.sin(2 * np.pi * 1000 * time) * np.sin(np.pi * time) ** 2
        for time in (np.arange(rate) / rate for rate in (22050, 16000))
    )
    assert np.abs(resample(original, 22050) - expected).max() < 1e-6


def test_unknown_voice_is_named(load_prepare):
    load_prepare("digits")
    from espeak import Prosody, speak

    with pytest.raises(InputError, match="'xx-nowhere'"):
        speak("one", "xx-nowhere", Prosody(), 0)


@pytest.mark.parametrize(("option", "value"), [("--train", "0"), ("--test", "2000000"), ("--jobs", "0")])
def test_sizes_out_of_range_are_refused(prepare, tmp_path, option, value):
    with pytest.raises(InputError):
        prepare.main(["--output", str(tmp_path / "a"), option, value])
    assert not (tmp_path / "a").exists()
