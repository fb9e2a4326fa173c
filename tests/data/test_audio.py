"""Audio a second at a time, and its features as they come."""

import numpy as np
import pytest
import soundfile
import torch
from lhotse import MultiCut
from sounds import RATE, heard, sound_files, tones

from asr.data.audio import AudioFile, FbankStream, listen, loudness
from asr.data.corpus import describe_recording
from asr.data.features import SAMPLING_RATE, load_samples, make_fbank
from asr.errors import InputError

FILES = sound_files()


def write(path, seconds, rate=SAMPLING_RATE, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    samples = rng.uniform(-0.5, 0.5, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return samples


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("rate", "seconds"), [(16000, 3.3), (16000, 1.0), (8000, 2.25), (44100, 3.1), (22050, 0.4)])
def test_seconds_are_the_samples_of_the_whole(tmp_path, rate, seconds, channels):
    write(tmp_path / "a.wav", seconds, rate, channels)
    parts = list(AudioFile(tmp_path / "a.wav").seconds())
    assert all(len(part) == SAMPLING_RATE for part in parts[:-1])
    whole = load_samples(describe_recording("a", tmp_path / "a.wav").to_cut())
    found = np.concatenate(parts)
    assert abs(len(found) - len(whole)) <= 1
    size = min(len(found), len(whole))
    assert np.abs(found[:size] - whole[:size]).max() < 1e-4


def test_samples_that_are_no_numbers_are_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.1, np.nan]), SAMPLING_RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a.wav: audio with NaN"):
        list(AudioFile(tmp_path / "a.wav").seconds())


def test_unreadable_audio_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF but no more")
    with pytest.raises(InputError, match=r"a.wav: not a readable audio file"):
        list(AudioFile(tmp_path / "a.wav").seconds())


@pytest.mark.parametrize("block", [37, 160, 400, 1600, 16000])
@pytest.mark.parametrize("size", [50, 160, 200, 1599, 1600, 1681, 8123, 16000])
def test_features_of_blocks_are_those_of_the_whole(block, size):
    fbank = make_fbank(20)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, size).astype(np.float32)
    stream = FbankStream(fbank)
    parts = [stream.add(samples[begin : begin + block]) for begin in range(0, size, block)]
    found = torch.cat([*parts, stream.end()])
    whole = torch.from_numpy(fbank.extract(samples, SAMPLING_RATE)) if size >= 160 else torch.zeros(0, 20)
    assert found.shape == whole.shape
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-3)


def test_loudness_is_the_mean_square(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.repeat([0.5, 0.0], SAMPLING_RATE), SAMPLING_RATE, subtype="FLOAT")
    assert loudness(AudioFile(tmp_path / "a.wav").seconds()).tolist() == pytest.approx([0.25] * 10 + [0.0] * 10)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_heard_as_far_as_it_can_be_read(tmp_path, name, capfd):
    made = FILES[name]()
    (tmp_path / "a").write_bytes(made.content)
    stream = AudioFile(tmp_path / "a")
    assert heard(np.concatenate(list(stream.seconds()))) == made.heard
    assert bool(stream.faults) == (made.lost != 0)
    copied = listen("a", AudioFile(tmp_path / "a"))
    assert heard(load_samples(copied.recording.to_cut())) == made.heard
    assert len(copied.loudness_N) == int(copied.recording.duration * 10)
    assert copied.faults == stream.faults
    assert copied.in_part == bool(made.lost != 0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("residue", [0.0, 0.02])
def test_channels_of_opposite_phase_are_not_silence(tmp_path, residue):
    tone = tones(2)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, (residue - 1) * tone], axis=1), RATE)
    copied = listen("a", AudioFile(tmp_path / "a.wav"))
    assert not copied.in_part
    assert copied.faults == ["its channels are of opposite phase in 2 s, of which the first channel is taken"]
    recording = describe_recording("a", tmp_path / "a.wav")
    both = MultiCut("a", 0.0, recording.duration, [0, 1], [], recording=recording)
    for cut in (copied.recording.to_cut(), both):
        np.testing.assert_allclose(load_samples(cut), tone, atol=1e-3)


def test_other_channels_are_averaged(tmp_path):
    tone = tones(1)
    for other in (np.zeros_like(tone), np.roll(tone, 1000), -0.7 * tone):
        soundfile.write(tmp_path / "a.wav", np.stack([tone, other], axis=1), RATE)
        file = AudioFile(tmp_path / "a.wav")
        np.testing.assert_allclose(np.concatenate(list(file.seconds())), (tone + other) / 2, atol=1e-3)
        assert file.faults == []


def test_an_empty_file_and_a_directory_are_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(InputError, match=r"a.wav: holds no samples"):
        list(AudioFile(tmp_path / "a.wav").seconds())
    with pytest.raises(InputError, match=r"b.wav: no such file"):
        AudioFile(tmp_path / "b.wav")
    with pytest.raises(InputError, match="is a directory; name a file"):
        AudioFile(tmp_path)
