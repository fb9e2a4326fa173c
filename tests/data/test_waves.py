"""Noise and rooms follow from their key, are as strong as asked, and are off unless asked for."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, NumpyFilesWriter

from asr.config import DataOptions, NoiseOptions, RoomOptions
from asr.data.augment import keyed_random
from asr.data.batch import Position
from asr.data.corpus import describe_recording, write_cuts
from asr.data.dataset import Draw, SpeechDataset, one_thread
from asr.data.features import load_samples, make_fbank
from asr.data.loader import Loader
from asr.data.sampler import TrainingStream
from asr.data.waves import load_noise, make_waves, mixed, require_audio, reverberated
from asr.errors import InputError
from asr.models.subsampling import frame_timing

RATE = 16000


def speech(seconds=2.0, seed=0):
    """Bursts of noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    burst = np.random.default_rng(seed).standard_normal(len(time)) * (np.sin(2 * np.pi * 2 * time) > 0)
    return (0.1 * burst).astype(np.float32)


def power_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    """A manifest of a short noise at 16 kHz and a long one at 8 kHz, of two channels."""
    directory = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(5)
    soundfile.write(directory / "short.wav", 0.3 * rng.standard_normal(8000), 16000, subtype="FLOAT")
    soundfile.write(directory / "long.wav", 0.01 * rng.standard_normal((80000, 2)), 8000, subtype="FLOAT")
    cuts = [describe_recording(name, directory / f"{name}.wav").to_cut() for name in ("short", "long")]
    write_cuts(cuts, directory / "cuts_noise.jsonl.gz")
    return str(directory / "cuts_noise.jsonl.gz")


@pytest.fixture
def options(noises):
    return DataOptions(noise=NoiseOptions([noises], 0.5, [10, 20]), rooms=RoomOptions(0.5))


def altered(options, seed=0, epoch=0, cut_id="u"):
    with one_thread():  # as the dataset does: several threads round differently from one time to the next
        return make_waves(options, seed)(speech(), epoch, cut_id)


def test_off_by_default(tiny_corpus):
    assert make_waves(DataOptions(), seed=0) is None


def test_the_same_key_gives_the_same_bits_whatever_was_drawn_before(options):
    options = replace(options, noise=replace(options.noise, probability=1), rooms=RoomOptions(1.0))
    first = altered(options)
    torch.rand(7)
    np.random.rand(7)
    assert np.array_equal(altered(options), first)
    others = [altered(options, seed=1), altered(options, epoch=1), altered(options, cut_id="v")]
    assert not any(np.array_equal(other, first) for other in others)


def test_torch_draws_the_same_afterwards(options):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    altered(replace(options, rooms=RoomOptions(1.0)))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 30.0])
def test_noise_lies_as_far_below_the_speech_as_asked(snr_db):
    samples, noise = speech(), speech(seed=1)
    added = mixed(samples, noise, snr_db).astype(np.float64) - samples
    assert power_db(samples) - power_db(added) == pytest.approx(snr_db, abs=0.01)


def test_ratios_are_drawn_from_the_range_that_is_asked_for(noises):
    waves = make_waves(DataOptions(noise=NoiseOptions([noises], 1.0, [5, 15])), seed=0)
    ratios = [power_db(speech()) - power_db(waves(speech(), 0, str(i)) - speech()) for i in range(60)]
    assert 4.9 < min(ratios) < 7
    assert 13 < max(ratios) < 15.1


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.25, 10, 42), (1.0, 100, 100)])
def test_the_share_that_is_asked_for_gets_noise(noises, probability, low, high):
    waves = make_waves(DataOptions(noise=NoiseOptions([noises], probability)), seed=0)
    changed = sum(not np.array_equal(waves(speech(), 0, str(i)), speech()) for i in range(100))
    assert low <= changed <= high


def test_silence_stays_silence():
    assert np.isfinite(mixed(np.zeros(100, np.float32), speech()[:100], 10)).all()
    silent = np.zeros(100, np.float32)
    assert np.array_equal(mixed(speech()[:100], silent, 10), speech()[:100])


def test_short_noise_is_repeated_and_of_long_noise_a_random_part_is_taken(noises):
    short, long = CutSet.from_file(noises)
    repeated = load_noise(short, 20000, keyed_random(0))
    assert np.array_equal(repeated[:8000], repeated[8000:16000])
    parts = [load_noise(long, 20001, keyed_random(key)) for key in range(2)]
    assert [len(part) for part in parts] == [20001, 20001]
    assert not np.array_equal(*parts)


@pytest.mark.parametrize("key", range(8))
def test_a_room_keeps_length_power_and_onset_and_adds_a_tail(key):
    samples = np.zeros(2 * RATE, np.float32)
    samples[RATE // 2 : RATE] = speech(0.5, seed=1)[: RATE // 2]
    heard = reverberated(samples, 0.8, keyed_random(key))
    assert (heard.shape, heard.dtype) == (samples.shape, samples.dtype)
    assert power_db(heard) == pytest.approx(power_db(samples), abs=0.01)
    assert np.square(heard[: RATE // 4]).sum() < 0.02 * np.square(heard).sum()
    assert np.abs(heard[int(0.8 * RATE) : RATE]).max() > 1e-3


@pytest.mark.parametrize("snr_db", [[10.0], [20.0, 10.0], []])
def test_a_range_of_ratios_needs_two_ends_in_order(noises, snr_db):
    with pytest.raises(InputError, match="data.noise.snr_db=.*as in"):
        make_waves(DataOptions(noise=NoiseOptions([noises], 0.5, snr_db)), seed=0)


def test_noise_that_cannot_be_read_is_named(tmp_path):
    soundfile.write(tmp_path / "short.wav", speech(), RATE)
    cut = describe_recording("short", tmp_path / "short.wav").to_cut()
    (tmp_path / "short.wav").write_bytes(b"garbled")
    with pytest.raises(InputError, match="noise short: unreadable audio"):
        load_noise(cut, 100, keyed_random(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_alone_is_augmented_and_resumes_with_the_same_bits(tiny_corpus, options, workers):
    cuts = CutSet.from_file(tiny_corpus.train)
    dataset = SpeechDataset(80, frame_timing(4), waves=make_waves(options, seed=0))
    data = replace(options, max_seconds=5.0, buckets=3, speed_factors=[0.9, 1.1])

    def batches(start, count):
        return [b for b, _ in zip(Loader(dataset, TrainingStream(cuts, data, 0, start), workers), range(count))]

    whole = batches(Position(), 6)
    for batch, expected in zip(batches(whole[2].position, 3), whole[3:]):
        assert torch.equal(batch.features, expected.features)
    draw = Draw(list(cuts)[:6], Position(0, 1))
    plain = SpeechDataset(80, frame_timing(4))
    assert not torch.equal(dataset[draw].features, plain[draw].features)
    assert torch.equal(dataset[Draw(draw.cuts)].features, plain[draw].features)


def test_stored_features_cannot_be_augmented(tiny_corpus, options, tmp_path):
    cut = next(iter(CutSet.from_file(tiny_corpus.train)))
    with NumpyFilesWriter(str(tmp_path)) as writer:
        described = make_fbank(80).extract_from_samples_and_store(load_samples(cut)[None], writer, RATE, 0.0, 0)
    dataset = SpeechDataset(80, frame_timing(4), waves=make_waves(options, seed=0))
    (skipped,) = dataset[Draw([replace(cut, features=described)], Position(0, 1))].skipped
    assert "noise and rooms need audio" in skipped.reason
    with pytest.raises(InputError, match=f"{cut.id} has stored features"):
        require_audio(CutSet.from_cuts([replace(cut, features=described)]))
    require_audio(CutSet.from_cuts([cut]))
