"""The yesno preparation on the real corpus."""

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from asr.errors import InputError


@pytest.fixture
def prepare(load_prepare):
    return load_prepare("yesno")


def test_text_equals_the_file_names(prepare, shared_data, tmp_path):
    prepare.main(["--corpus-dir", str(shared_data / "waves_yesno"), "--output", str(tmp_path)])
    cuts = {split: list(CutSet.from_file(tmp_path / f"cuts_{split}.jsonl.gz")) for split in ("train", "test")}
    assert len(cuts["train"]) + len(cuts["test"]) == 60
    for split, first in (("train", "0"), ("test", "1")):
        for cut in cuts[split]:
            digits = cut.supervisions[0].text.replace("YES", "1").replace("NO", "0").split()
            assert cut.id == "_".join(digits)
            assert len(digits) == 8
            assert digits[0] == first


def test_words_have_times_where_silence_separates_them(prepare, shared_data, tmp_path):
    prepare.main(["--corpus-dir", str(shared_data / "waves_yesno"), "--output", str(tmp_path)])
    cuts = [cut for split in ("train", "test") for cut in CutSet.from_file(tmp_path / f"cuts_{split}.jsonl.gz")]
    aligned = [cut for cut in cuts if cut.supervisions[0].alignment]
    assert len(aligned) >= 50
    for cut in aligned:
        words = cut.supervisions[0].alignment["word"]
        assert [word.symbol for word in words] == cut.supervisions[0].text.split()
        assert all(0.1 < word.duration < 0.8 for word in words)
        assert words[0].start >= 0
        assert words[-1].end <= cut.duration


def test_audio_is_resampled_to_16_khz(prepare, shared_data, tmp_path):
    prepare.main(["--corpus-dir", str(shared_data / "waves_yesno"), "--output", str(tmp_path)])
    cut = next(iter(CutSet.from_file(tmp_path / "cuts_test.jsonl.gz")))
    original, rate = soundfile.read(cut.recording.sources[0].source)
    assert (rate, cut.sampling_rate) == (8000, 16000)
    resampled = cut.load_audio()[0]
    assert len(resampled) == 2 * len(original)
    assert np.corrcoef(resampled[::2], original)[0, 1] > 0.99


def test_missing_corpus_is_named(prepare, tmp_path):
    with pytest.raises(InputError, match=r"nowhere: holds no 0_\*.wav"):
        prepare.main(["--corpus-dir", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_name_that_is_no_transcript_is_refused(prepare):
    with pytest.raises(InputError, match=r"0_2\.wav"):
        prepare.transcript("0_2")


def test_unreadable_file_is_named_and_nothing_written(prepare, tmp_path):
    for name in ("0_1.wav", "1_1.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"0_1\.wav: not a readable audio file"):
        prepare.main(["--corpus-dir", str(tmp_path), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def noise(frames, level, rng):
    """Samples of 10 ms frames at 8 kHz."""
    return (level * rng.standard_normal(80 * frames)).astype(np.int16)


def spoken(words, rng):
    """Loud words of 0.3 s in quiet noise, with pauses of 0.2 s."""
    quiet, loud = (lambda n: noise(n, 20, rng)), (lambda n: noise(n, 3000, rng))
    return np.concatenate([quiet(30), *(part for _ in words for part in (loud(30), quiet(20))), quiet(30)])


@pytest.fixture
def shuffle(prepare):
    import shuffle

    return shuffle


def test_words_are_cut_in_the_pauses(shuffle):
    text = "NO YES NO"
    samples = spoken(text.split(), np.random.default_rng(0))
    words = shuffle.cut_words(samples, 8000, text)
    assert [word.text for word in words] == text.split()
    for word in words:
        loud = shuffle.loudness(word.samples, 8000) > 300
        assert 28 <= loud.sum() <= 36
        assert not loud[:3].any()
        assert not loud[-3:].any()
    assert len(words[1].samples) == pytest.approx(80 * 50, abs=80 * 3)


def test_an_utterance_whose_pauses_do_not_fit_its_text_gives_no_word(shuffle):
    samples = spoken(["NO"] * 3, np.random.default_rng(0))
    assert shuffle.cut_words(samples, 8000, "NO YES NO YES") == []
    assert shuffle.cut_words(noise(200, 3000, np.random.default_rng(0)), 8000, "NO YES") == []


def test_shuffled_strings_are_drawn_from_the_words_given(shuffle):
    words = [shuffle.Word(text, np.array([n])) for n, text in enumerate(["NO"] * 9 + ["YES"])]
    strings = shuffle.shuffled_strings(words, 2000, (3, 8), seed=0)
    assert strings == shuffle.shuffled_strings(words, 2000, (3, 8), seed=0)
    assert {len(string) for string in strings} == set(range(3, 9))
    assert {id(word) for string in strings for word in string} == {id(word) for word in words}
    first = [string[0].text for string in strings]
    assert 0.45 < first.count("YES") / len(first) < 0.55


def test_new_strings_of_the_real_corpus(prepare, shared_data, tmp_path, capsys):
    prepare.main(["--corpus-dir", str(shared_data / "waves_yesno"), "--output", str(tmp_path)])
    assert "0_1_0_1_0_0_0_0: silence does not separate its words" in capsys.readouterr().out
    cuts = list(CutSet.from_file(tmp_path / "cuts_shuffled.jsonl.gz"))
    assert len(cuts) == 600
    for cut in cuts[:20]:
        words = cut.supervisions[0].text.split()
        assert 3 <= len(words) <= 8
        assert 0.4 * len(words) < cut.duration < 1.0 * len(words) + 0.6
        assert cut.sampling_rate == 16000
