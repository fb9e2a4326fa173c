"""All that can be read of a file is heard, whatever its header says; what cannot be read is counted."""

import io
import itertools

import numpy as np
import pytest
import soundfile
from lhotse import Recording
from lhotse.audio import AudioSource
from sounds import RATE, SECONDS, Made, encoded, heard, sound_files, tones, vbr

from asr.data.corpus import describe_recording
from asr.data.features import load_samples
from asr.data.sound import Sound, displaced
from asr.errors import InputError

FILES = sound_files()
TOLERANCE = 0.35  # s: a FLAC frame, or what a codec adds


@pytest.fixture(params=FILES, scope="module")
def made(request) -> Made:
    return FILES[request.param]()


def test_there_are_files_of_every_kind():
    assert len(FILES) >= 84


def test_what_is_there_is_heard_and_what_is_missing_is_said(made, capfd):
    sound = Sound(made.content)
    before = sound.frames
    samples = sound.read()
    assert heard(samples.mean(axis=1)) == made.heard
    assert len(samples) == sound.frames == before
    if made.lost is None:
        assert any(words in sound.fault for words in ("cut off before its end", "at least ", "are missing in it"))
    else:
        assert sound.lost == pytest.approx(made.lost, abs=TOLERANCE)
        assert bool(sound.fault) == bool(made.lost)
    assert capfd.readouterr().err == ""


def test_pieces_are_those_of_the_whole(made):
    whole = Sound(made.content).read()
    for begin, count in ((0, 100), (40000, 30000), (len(whole) - 5000, 5000), (len(whole), 10)):
        piece = Sound(made.content).read(begin, count)
        np.testing.assert_allclose(piece, whole[begin : begin + count], atol=1e-4)


def test_pieces_of_recordings_are_those_of_the_whole(made, tmp_path):
    path = tmp_path / "audio"
    path.write_bytes(made.content)
    sound = Sound(made.content)
    whole = sound.read().mean(axis=1)
    cut = manifest(path, len(whole) / RATE).to_cut()
    for begin, end in ((0.1, 0.6), (0.75, cut.duration), (cut.duration - 0.5, cut.duration)):
        if displaced(path) or any(first < end * RATE and last > begin * RATE for first, last in sound.gaps):
            with pytest.raises(InputError, match="cannot be read|where its parts belong is not known"):
                load_samples(cut.truncate(offset=begin, duration=end - begin))
            continue
        piece = load_samples(cut.truncate(offset=begin, duration=end - begin))
        np.testing.assert_allclose(piece, whole[round(begin * RATE) :][: len(piece)], atol=1e-4)
        assert len(piece) == pytest.approx((end - begin) * RATE, abs=1)


def test_a_recording_is_as_long_as_what_can_be_read(made, tmp_path):
    path = tmp_path / "audio.sph"  # the suffix is not what tells the format
    path.write_bytes(made.content)
    if made.lost == 0:
        recording = describe_recording("u", path)
        assert recording.num_samples == len(Sound(made.content).read())
        assert heard(load_samples(recording.to_cut())) == made.heard
        return
    named = r"s cannot be read: the file is damaged|(cut off before its end|are missing in it); restore it"
    with pytest.raises(InputError, match=named):
        load_samples(describe_recording("u", path).to_cut())  # a gap in the middle is found when it is read


@pytest.mark.parametrize("name", ["flac-hole", "flac-length-unknown-hole", "ogg-flac-hole"])
def test_a_piece_of_what_is_lost_is_refused_and_others_are_what_they_are(name, tmp_path):
    """libFLAC, sent into a hole, gives what comes behind it, as if it were there."""
    path = tmp_path / "audio"
    path.write_bytes(FILES[name]().content)
    sound = Sound.open(path)
    whole = sound.read()[:, 0]
    ((first, last),) = sound.gaps
    assert not whole[first:last].any()
    cut = manifest(path, len(whole) / RATE).to_cut()
    for begin, end in ((first - 9000, first - 1000), (last + 1000, last + 9000), (last + 100, len(whole))):
        piece = load_samples(cut.truncate(offset=begin / RATE, duration=(end - begin) / RATE))
        np.testing.assert_allclose(piece, whole[begin:end], atol=1e-4)
    for begin, end in ((first - 3000, last + 3000), (first + 1000, first + 5000), ((first + last) // 2, last + 9000)):
        with pytest.raises(InputError, match=f"{first / RATE:.2f} to {last / RATE:.2f} s of .* cannot be read"):
            load_samples(cut.truncate(offset=begin / RATE, duration=(end - begin) / RATE))


WHOLE_INSIDE = ("mp3-joined-with-tags", "mp3-id3", "ogg-opus-truncated", "ogg-opus-joined", "flac-hole")


@pytest.mark.parametrize("name", ["mp3-hole", "mp3-hole-without-xing", "opus-hole", *WHOLE_INSIDE])
def test_no_piece_is_taken_from_another_place_than_it_was_in(name, tmp_path):
    """Decoders of MP3 and Ogg count what is there: behind a hole, what is read for second 4 was second 5."""
    path = tmp_path / "audio"
    path.write_bytes(FILES[name]().content)
    assert bool(displaced(path)) is (name not in WHOLE_INSIDE)


def manifest(path, seconds):
    """The recording of a file that is said to last so long."""
    return Recording("u", [AudioSource("file", [0], str(path))], RATE, round(seconds * RATE), seconds)


def test_a_manifest_that_believed_the_header_is_named(made, tmp_path):
    """Lhotse's own manifests say what libsndfile says."""
    path = tmp_path / "audio"
    path.write_bytes(made.content)
    try:
        believed = soundfile.info(path).frames / RATE
    except soundfile.SoundFileError:
        believed = float(SECONDS)
    cut = manifest(path, believed or SECONDS).to_cut()
    sound = Sound(made.content)
    sound.read()
    if not sound.fault and abs(sound.frames / RATE - cut.duration) < 0.02:
        assert heard(load_samples(cut)) == made.heard
        return
    lasts = f"{path} lasts {sound.frames / RATE:.2f} s, its manifest says {cut.duration:.2f} s"
    with pytest.raises(InputError) as raised:
        load_samples(cut)
    assert str(raised.value) in (f"unreadable audio ({lasts})", f"unreadable audio ({sound.fault})")


def test_parts_that_do_not_go_together_are_refused():
    other = np.zeros((8000, 2))
    file = io.BytesIO()
    soundfile.write(file, other, 8000, format="FLAC")
    with pytest.raises(InputError, match="joined of files with different sampling rates or channels"):
        Sound(encoded("FLAC") + file.getvalue())


@pytest.mark.parametrize("content", [b"", b"text", b"RIFF", b"OggS", b"fLaC", b"\xff\xfb\x90\x00", bytes(5000)])
def test_what_is_no_audio_is_an_input_error(content):
    with pytest.raises(InputError):
        Sound(content)


def test_random_damage_raises_nothing_else():
    rng = np.random.default_rng(0)
    for content, _ in itertools.product((vbr(), encoded("FLAC"), encoded("OGG", "VORBIS"), encoded("WAV")), range(6)):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 20):
            damaged[place] = rng.integers(256)
        try:
            sound = Sound(bytes(damaged[: rng.integers(len(content) // 2, len(content))]))
            assert np.isfinite(sound.read()).all()
        except InputError:
            pass


def test_samples_are_those_that_were_written():
    expected = (tones() * 32768).round() / 32768
    for kind in ("WAV", "FLAC", "AIFF", "NIST"):
        assert np.abs(Sound(encoded(kind, "PCM_16")).read()[:, 0] - expected).max() <= 1.1 / 32768
