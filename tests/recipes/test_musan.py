"""The MUSAN preparation on a corpus of that layout."""

import importlib.util

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from lhotse import CutSet

from asr.errors import InputError


@pytest.fixture(scope="module")
def musan():
    spec = importlib.util.spec_from_file_location("musan", REPOSITORY / "local" / "musan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recordings_of_all_parts_become_cuts(musan, tmp_path):
    for name in ("noise/free-sound/noise-1", "music/fma/music-1", "speech/us-gov/speech-1"):
        path = tmp_path / "musan" / f"{name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(800), 16000)
    musan.main(["--corpus-dir", str(tmp_path / "musan"), "--output", str(tmp_path / "out")])
    cuts = list(CutSet.from_file(tmp_path / "out" / "cuts_noise.jsonl.gz"))
    assert [cut.id for cut in cuts] == ["music-1", "noise-1", "speech-1"]
    assert all(cut.load_audio().shape == (1, 800) for cut in cuts)


def test_a_folder_without_recordings_is_refused(musan, tmp_path):
    with pytest.raises(InputError, match="no recordings in music, speech, noise; name the folder"):
        musan.main(["--corpus-dir", str(tmp_path), "--output", str(tmp_path)])


def test_a_damaged_recording_is_named(musan, tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "broken.wav").write_bytes(b"garbled")
    with pytest.raises(InputError, match=r"broken\.wav.*restore it"):
        musan.main(["--corpus-dir", str(tmp_path), "--output", str(tmp_path)])
