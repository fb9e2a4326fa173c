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
def pauses(prepare):
    import pauses

    return pauses


def test_words_are_found_between_the_pauses(pauses):
    times = pauses.word_times(spoken(["NO"] * 3, np.random.default_rng(0)), 8000, 3)
    for found, start in zip(times, (0.3, 0.8, 1.3), strict=True):
        assert found == pytest.approx((start, 0.3), abs=0.05)


def test_an_utterance_whose_pauses_do_not_fit_its_text_gives_no_word(pauses):
    assert pauses.word_times(spoken(["NO"] * 3, np.random.default_rng(0)), 8000, 4) == []
    assert pauses.word_times(noise(200, 3000, np.random.default_rng(0)), 8000, 2) == []
