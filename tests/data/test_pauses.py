"""Where recordings are cut: at pauses, never inside a word while one is near, into pieces like a model's training."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile

from asr.data.audio import AudioFile, listen, loudness
from asr.data.corpus import describe_recording
from asr.data.features import SAMPLING_RATE
from asr.data.pauses import ANY, Lengths, cut_at_pauses, pieces, quiet_times

SPEECH = 0.02  # mean square


def said(*durations, floor=2e-6, seed=0):
    """Loudness (N,) of speech and pauses in turns, seconds, and where speech is: with stops, and some noise."""
    rng = np.random.default_rng(seed)
    blocks, spans = [], []
    for n, seconds in enumerate(durations):
        size = round(seconds / 0.1)
        if n % 2 == 0:
            spans.append((len(blocks) / 10, (len(blocks) + size) / 10))
            blocks += [floor if k % 4 == 3 and k < size - 1 else SPEECH * rng.uniform(0.3, 2) for k in range(size)]
        else:
            blocks += [floor * rng.uniform(0.7, 1.4) for _ in range(size)]
    return np.array(blocks), spans


def cut(loudness_N, lengths=ANY):
    return pieces(loudness_N, len(loudness_N) / 10, lengths)


def inside(times, spans):
    """Which of the times are inside of speech."""
    return [t for t in times if any(begin + 0.05 < t < end - 0.05 for begin, end in spans)]


def ends(found):
    return [time for piece in found for time in piece][1:-1]


@pytest.mark.parametrize("floor", [0.0, 2e-6, 2e-4])
def test_every_clear_pause_is_cut_at_and_long_silence_left_out(floor):
    rng = np.random.default_rng(1)
    durations = [round(rng.uniform(*((1.5, 5) if n % 2 == 0 else (0.5, 2.5))), 1) for n in range(81)]
    loudness_N, spans = said(*durations, floor=floor)
    found = cut(loudness_N)
    assert len(found) == len(spans)
    for (begin, end), (first, last) in zip(found, spans):
        assert 0 <= first - begin <= 0.25
        assert 0 <= end - last <= 0.25


def test_pieces_are_no_longer_than_training_utterances_and_no_word_is_cut_while_a_gap_is_near():
    rng = np.random.default_rng(2)
    durations = [round(rng.uniform(*((0.4, 1.6) if n % 2 == 0 else (0.2, 0.4))), 1) for n in range(401)]
    loudness_N, spans = said(*durations)
    for longest in (4.0, 8.0, 15.0, 30.0):
        found = cut(loudness_N, Lengths(1.0, longest))
        assert max(end - begin for begin, end in found) <= longest
        assert len(found) <= 2.5 * len(loudness_N) / 10 / longest
        assert inside(ends(found), spans) == []
        assert all(a <= b for a, b in pairwise(ends(found)))


def test_the_longest_gap_in_reach_is_cut_at():
    loudness_N, _ = said(3, 0.2, 3, 0.4, 3, 0.3, 3)
    assert cut(loudness_N, Lengths(1.0, 8.0)) == [(0.0, 6.4), (6.4, 13.0 - 0.1)]


def test_what_is_short_goes_with_its_neighbour_if_near():
    for pause, count in ((0.6, 1), (1.5, 2)):
        loudness_N, _ = said(0.4, pause, 3.0, 2.0, 3.0)
        assert len(cut(loudness_N, Lengths(1.0, 5.0))) == count + 1


def test_a_faint_speaker_is_heard():
    loud, _ = said(*[2.0, 1.0] * 10)
    faint = np.concatenate([loud, said(4.0, 0.6)[0] * 1e-3 + 2e-6, loud])
    found = cut(faint)
    assert all(any(begin <= t <= end for begin, end in found) for t in np.arange(30.1, 34.0, 0.1))


@pytest.mark.parametrize("noise", [np.ones, np.zeros, lambda n: np.random.default_rng(0).uniform(0.5, 1, n)])
def test_without_a_contrast_all_is_kept_and_cut_where_it_must_be(noise):
    found = cut(noise(1000), Lengths(1.0, 30.0))
    assert (found[0][0], found[-1][1]) == (0.0, 100.0)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert max(end - begin for begin, end in found) <= 30.0
    assert len(found) <= 8


def test_times_to_cut_at_leave_nothing_out():
    loudness_N, spans = said(*[4.2, 0.3, 3.1, 0.7, 2.5, 60.0] * 20)
    times = quiet_times(loudness_N, 10.0)
    assert inside(times, spans) == []
    assert 0 < np.diff([0.0, *times, len(loudness_N) / 10]).max() <= 10.0


def write(path, seconds, seed=0):
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * SAMPLING_RATE))
    soundfile.write(path, samples, SAMPLING_RATE, subtype="FLOAT")
    return samples


def cuts_of(path, lengths):
    """The pieces of a file that is called a."""
    heard = listen("a", AudioFile(path))
    return cut_at_pauses(heard.recording.to_cut().with_id("a"), heard.loudness_N, lengths)


def test_a_short_recording_is_one_piece(tmp_path):
    write(tmp_path / "a.wav", 2.0)
    ((begin, cut),) = cuts_of(tmp_path / "a.wav", Lengths(1.0, 2.0))
    assert (begin, cut.id, cut.start, cut.duration) == (0.0, "a", 0.0, 2.0)


def test_a_long_recording_is_cut_where_it_is_quiet(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * SAMPLING_RATE)
    pauses = [(4.0, 4.6), (8.5, 9.0), (12.2, 12.9), (16.0, 16.5)]
    for begin, end in pauses:
        samples[round(begin * SAMPLING_RATE) : round(end * SAMPLING_RATE)] *= 1e-3
    soundfile.write(tmp_path / "a.wav", samples, SAMPLING_RATE)
    found = cuts_of(tmp_path / "a.wav", Lengths(1.0, 6.0))
    cuts = [cut for _, cut in found]
    assert [begin for begin, _ in found] == [cut.start for cut in cuts]
    assert cuts[0].start == 0.0
    assert cuts[-1].end == pytest.approx(20.0)
    assert max(cut.duration for cut in cuts) <= 6.0
    assert all(
        start <= before.end <= after.start <= stop for (before, after), (start, stop) in zip(pairwise(cuts), pauses)
    )
    assert len({cut.id for cut in cuts}) == len(cuts) == 5


@pytest.mark.parametrize("seconds", [1.01, 1.05, 1.1, 1.95, 3.0])
def test_no_piece_is_longer_than_asked_for_though_it_is_by_less_than_a_block(tmp_path, seconds):
    path = tmp_path / "a.wav"
    write(path, seconds)
    cut = describe_recording("a", path).to_cut()
    found = [piece for _, piece in cut_at_pauses(cut, loudness(AudioFile(path).seconds()), Lengths(0.25, 1.0))]
    assert max(piece.duration for piece in found) <= 1.0
    assert sum(piece.duration for piece in found) == pytest.approx(seconds, abs=1e-3)
