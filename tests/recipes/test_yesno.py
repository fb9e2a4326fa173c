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
