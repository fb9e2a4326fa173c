"""Lhotse reads audio as we do while we read, and otherwise as the program that uses it, too, has set it."""

import runpy
import threading
from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.audio import backend as lhotse_backend
from lhotse.audio import get_current_audio_backend, set_current_audio_backend
from lhotse.audio.backend import LibsndfileBackend

from asr.data import features, lhotse_audio, shar
from asr.data.features import load_samples
from asr.data.lhotse_audio import SoundBackend, as_sound
from asr.data.shar import Shard, write_shard
from asr.errors import InputError


@pytest.fixture
def own(monkeypatch):
    """The backend that another part of the program has chosen."""
    monkeypatch.setattr(lhotse_backend, "CURRENT_AUDIO_BACKEND", None)
    return set_current_audio_backend(LibsndfileBackend())


@pytest.mark.parametrize("module", [lhotse_audio, features, shar])
def test_importing_changes_nothing(module, own):
    runpy.run_path(module.__file__)
    assert get_current_audio_backend() is own


@pytest.fixture
def used(monkeypatch):
    """The backends that Lhotse has read with."""
    kinds = []
    original = SoundBackend.read_audio
    monkeypatch.setattr(
        SoundBackend,
        "read_audio",
        lambda self, *args, **options: (
            kinds.append(type(get_current_audio_backend())),
            original(self, *args, **options),
        )[1],
    )
    return kinds


def test_what_is_read_is_read_as_sound_and_the_former_backend_is_put_back(tiny_corpus, tmp_path, own, used):
    cuts = list(CutSet.from_file(tiny_corpus.dev))[:2]
    load_samples(cuts[0])
    assert used == [SoundBackend]
    assert get_current_audio_backend() is own
    write_shard(Shard(0, cuts, tmp_path, "flac"))
    assert used == [SoundBackend] * 5  # each looked at, and packed
    assert get_current_audio_backend() is own


def test_it_is_put_back_after_an_error(tiny_corpus, tmp_path, own):
    cut = next(iter(CutSet.from_file(tiny_corpus.dev)))
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(Path(cut.recording.sources[0].source).read_bytes()[:5000])
    cut.recording.sources[0].source = str(damaged)
    with pytest.raises(InputError, match="its manifest says"):
        load_samples(cut)
    assert get_current_audio_backend() is own


def test_the_last_of_several_threads_puts_it_back(own):
    """The first to come leaves first, while the second reads on."""
    inside, leave = threading.Event(), threading.Event()

    def read():
        with as_sound():
            inside.set()
            leave.wait(60)

    with as_sound():
        second = threading.Thread(target=read)
        second.start()
        assert inside.wait(60)
    assert isinstance(get_current_audio_backend(), SoundBackend)
    leave.set()
    second.join()
    assert get_current_audio_backend() is own
