"""The digits preparation: reproducible, disjoint splits, true word times."""

import shutil

import numpy as np
import pytest
from lhotse import CutSet

from asr.errors import InputError

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
