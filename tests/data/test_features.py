"""Filterbanks against torchaudio's Kaldi features, and every way in which audio can be bad."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut, MultiCut
from lhotse.features.io import NumpyFilesWriter
from torchaudio.compliance import kaldi

from asr.data.corpus import describe_recording, make_cut
from asr.data.features import (
    FRAME_SAMPLES,
    SAMPLING_RATE,
    frame_count,
    load_features,
    load_samples,
    make_fbank,
    one_line,
)
from asr.errors import InputError

FBANK = make_fbank(80)


def noise(samples, channels=1, seed=0):
    shape = samples if channels == 1 else (samples, channels)
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def write_cut(path: Path, samples, sampling_rate=SAMPLING_RATE):
    """A cut of float32 `samples`, (N,) or (N,channels), written to `path` without rounding."""
    soundfile.write(path, samples, sampling_rate, subtype="FLOAT")
    return make_cut(describe_recording("u", path), "A", "speaker", "English")


def stored(cut, directory, fbank=FBANK):
    """The cut with its features in `directory`."""
    with NumpyFilesWriter(str(directory)) as writer:
        described = fbank.extract_from_samples_and_store(
            load_samples(cut)[None], writer, SAMPLING_RATE, cut.start, cut.channel
        )
    return replace(cut, features=described)


@pytest.mark.parametrize("samples", [400, 8123, 24001])
@pytest.mark.parametrize("mel_bins", [40, 80])
def test_fbank_is_the_filterbank_of_kaldi(samples, mel_bins):
    wave = noise(samples)
    expected = kaldi.fbank(
        torch.from_numpy(wave)[None],
        num_mel_bins=mel_bins,
        sample_frequency=16000,
        frame_length=25,
        frame_shift=10,
        window_type="povey",
        low_freq=20,
        high_freq=7600,
        snip_edges=False,
        dither=0,
    )
    features = torch.from_numpy(make_fbank(mel_bins).extract(wave, SAMPLING_RATE))
    assert features.shape == expected.shape
    assert (features - expected).abs().max() < 1e-4


def test_another_upper_frequency_would_not_agree_with_kaldi():
    wave = noise(8000)
    other = kaldi.fbank(torch.from_numpy(wave)[None], num_mel_bins=80, high_freq=8000, snip_edges=False, dither=0)
    assert (torch.from_numpy(FBANK.extract(wave, SAMPLING_RATE)) - other).abs().max() > 0.1


@pytest.mark.parametrize("sampling_rate", [8000, 16000, 22050])
def test_frame_count_is_the_number_of_frames_that_are_loaded(tmp_path, sampling_rate):
    second_eighths = [sampling_rate // 8, sampling_rate * 3 // 8]  # half a frame left over
    for samples in [*second_eighths, *range(sampling_rate // 5, sampling_rate // 5 + 400, 23)]:
        cut = write_cut(tmp_path / "audio.wav", noise(samples), sampling_rate)
        assert frame_count(cut) == len(load_features(cut, FBANK)), samples


def test_audio_at_8_khz_is_resampled(tmp_path):
    time = np.arange(8000) / 8000
    cut = write_cut(tmp_path / "audio.wav", np.sin(2 * np.pi * 1000 * time).astype(np.float32), 8000)
    samples = load_samples(cut)
    assert samples.shape == (16000,)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() == 1000  # bins of 1 Hz
    assert spectrum[4100:].max() < 0.01 * spectrum.max()


@pytest.mark.parametrize("held", ["in a file", "in memory, as Shar has it"])
def test_a_sampling_rate_that_the_audio_does_not_have_is_an_input_error(tmp_path, held):
    cut = write_cut(tmp_path / "audio.wav", noise(8000), 8000)
    cut = cut if held == "in a file" else cut.move_to_memory(audio_format="wav")
    assert len(load_samples(cut)) == 16000
    believed = replace(cut, duration=0.5, recording=replace(cut.recording, sampling_rate=16000, duration=0.5))
    for wrong in (believed, believed.perturb_speed(1.1), believed.resample(8000), believed.pad(duration=2.0)):
        with pytest.raises(InputError, match="^the audio has 8000 samples a second, the manifest says 16000"):
            load_samples(wrong)


def test_channels_are_averaged(tmp_path):
    stereo = noise(4000, channels=2)
    soundfile.write(tmp_path / "audio.wav", stereo, SAMPLING_RATE, subtype="FLOAT")
    recording = describe_recording("u", tmp_path / "audio.wav")
    cut = MultiCut("u", 0.0, recording.duration, [0, 1], [], recording=recording)
    np.testing.assert_allclose(load_samples(cut), stereo.mean(axis=1), rtol=0, atol=1e-7)


def test_missing_audio_is_an_input_error_of_one_line(tmp_path):
    cut = write_cut(tmp_path / "audio.wav", noise(4000))
    (tmp_path / "audio.wav").unlink()
    with pytest.raises(InputError, match="unreadable audio") as raised:
        load_features(cut, FBANK)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio " * 500])
def test_garbled_audio_is_an_input_error(tmp_path, content):
    cut = write_cut(tmp_path / "audio.wav", noise(4000))
    (tmp_path / "audio.wav").write_bytes(content)
    with pytest.raises(InputError, match="unreadable audio"):
        load_features(cut, FBANK)


def test_truncated_audio_is_an_input_error(tmp_path):
    cut = write_cut(tmp_path / "audio.wav", noise(16000))
    content = (tmp_path / "audio.wav").read_bytes()
    (tmp_path / "audio.wav").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="unreadable audio"):
        load_features(cut, FBANK)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_an_input_error(tmp_path, value):
    wave = noise(4000)
    wave[123] = value
    with pytest.raises(InputError, match="audio with NaN or infinite values"):
        load_features(write_cut(tmp_path / "audio.wav", wave), FBANK)


@pytest.mark.parametrize("samples", [1, FRAME_SAMPLES // 2 - 1, FRAME_SAMPLES // 2, FRAME_SAMPLES - 1])
def test_audio_shorter_than_a_frame_is_an_input_error(tmp_path, samples):
    cut = write_cut(tmp_path / "audio.wav", noise(samples))
    with pytest.raises(InputError, match=f"{samples} samples of audio, a feature frame needs {FRAME_SAMPLES}"):
        load_features(cut, FBANK)


def test_stored_features_are_read_back(tmp_path):
    cut = write_cut(tmp_path / "audio.wav", noise(4321))
    with_features = stored(cut, tmp_path)
    computed = load_features(cut, FBANK)
    (tmp_path / "audio.wav").unlink()
    assert torch.equal(load_features(with_features, FBANK), computed)
    assert frame_count(with_features) == len(computed)


def test_stored_features_with_another_number_of_bins_are_refused(tmp_path):
    cut = stored(write_cut(tmp_path / "audio.wav", noise(4000)), tmp_path, make_fbank(40))
    with pytest.raises(InputError, match="stored features have 40 bins, the model reads 80"):
        load_features(cut, FBANK)


@pytest.mark.parametrize("content", [None, b"", b"garbled"])
def test_unreadable_stored_features_are_an_input_error(tmp_path, content):
    cut = stored(write_cut(tmp_path / "audio.wav", noise(4000)), tmp_path)
    path = Path(cut.features.storage_path) / cut.features.storage_key
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match="unreadable features"):
        load_features(cut, FBANK)


def test_stored_features_with_nan_are_an_input_error(tmp_path):
    cut = stored(write_cut(tmp_path / "audio.wav", noise(4000)), tmp_path)
    path = Path(cut.features.storage_path) / cut.features.storage_key
    features = np.load(path)
    features[3, 5] = np.nan
    np.save(path, features)
    with pytest.raises(InputError, match="features with NaN or infinite values"):
        load_features(cut, FBANK)


def test_one_line_of_an_exception():
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(EOFError()) == "EOFError"
    assert len(one_line(ValueError("x" * 1000))) < 250


def test_a_cut_without_audio_is_refused():
    with pytest.raises(InputError, match="no audio"):
        load_samples(MonoCut("a", 0.0, 1.0, 0, []))
