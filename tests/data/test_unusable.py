"""Utterances that cannot be used: each is named with the reason when it is met, and the others go on."""

import logging
import math
import re
from dataclasses import replace
from functools import partial
from itertools import takewhile

import numpy as np
import pytest
import soundfile
import torch
from lhotse import Features, MonoCut, NumpyFilesWriter, SupervisionSegment
from lhotse.cut import MixedCut, MixTrack
from small_model import small_options

from asr.cli import tokenizer
from asr.cli.transcribe import say
from asr.config import BeamOptions, DataOptions, GreedyOptions, RoomOptions, TokenizerConfig, TrainConfig
from asr.data.batch import Position, Skipped
from asr.data.corpus import describe_recording, make_cut, write_cuts
from asr.data.features import LARGEST_SAMPLE, load_samples, make_fbank
from asr.data.manifest import open_cuts
from asr.data.shar import readable
from asr.data.store import Store, Task, store_chunk
from asr.data.tokenizer import load_tokenizer
from asr.decode.decoder import Decoder
from asr.errors import InputError
from asr.models.transducer import Transducer
from asr.recognizer import Recognizer
from asr.runs.trained import Trained
from asr.train.data import TrainingData, estimate_normalization
from asr.train.skips import SkipLog
from asr.train.task import make_task

BINS = 8


def spoken(directory, samples=16000, rate=16000, text="LOW", change=None):
    """A cut named "bad" of noise, with text; `change` is applied to the samples before they are written as floats."""
    wave = (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)
    if change:
        change(wave)
    soundfile.write(directory / "bad.wav", wave, rate, subtype="FLOAT")
    return make_cut(describe_recording("bad", directory / "bad.wav"), text, "speaker", "English")


def with_sample(value):
    """An utterance one sample of which has this value."""
    return partial(spoken, change=lambda wave: wave.__setitem__(8000, value))


def rewritten(content):
    """An utterance whose file has become something else."""

    def make(directory):
        cut = spoken(directory)
        (directory / "bad.wav").write_bytes(content)
        return cut

    return make


def deleted(directory):
    cut = spoken(directory)
    (directory / "bad.wav").unlink()
    return cut


def at_half_the_rate(directory):
    """A file of 8 kHz that its manifest says has 16 kHz, and so half the duration."""
    cut = spoken(directory, 16000, 8000)
    recording = replace(cut.recording, sampling_rate=16000, duration=1.0)
    return replace(cut, duration=1.0, recording=recording, supervisions=[replace(cut.supervisions[0], duration=1.0)])


def supervised(start, duration, text="LOW"):
    """An utterance of 1 s with a second supervision."""

    def make(directory):
        cut = spoken(directory)
        return replace(cut, supervisions=[*cut.supervisions, SupervisionSegment("s", "bad", start, duration, 0, text)])

    return make


def with_features(change=None, **described):
    """An utterance with stored features, some values of which, or of their description, are wrong."""

    def make(directory):
        cut = spoken(directory)
        values = make_fbank(BINS).extract(load_samples(cut), 16000)
        if change:
            change(values)
        with NumpyFilesWriter(str(directory)) as writer:
            key = writer.write("bad", values)
        stored = Features("fbank", 100, BINS, 0.01, 16000, 0.0, 1.0, writer.name, str(directory), key, channels=0)
        return replace(cut, features=replace(stored, **described))

    return make


def without_recording(directory):
    return MonoCut("bad", 0.0, 1.0, 0, [SupervisionSegment("bad", "bad", 0.0, 1.0, 0, "LOW")])


AUDIO = {
    "a missing file": (deleted, "unreadable audio"),
    "an empty file": (rewritten(b""), "unreadable audio"),
    "a page of HTML": (rewritten(b"<html>404 Not Found</html>"), "unreadable audio"),
    "a sample of NaN": (with_sample(np.nan), "audio with NaN or infinite values"),
    "an infinite sample": (with_sample(np.inf), "audio with NaN or infinite values"),
    "an absurd sample": (with_sample(1e38), r"audio with a sample of 1e\+38, which should lie in \[−1, 1\]"),
    "a sample that is out of range": (with_sample(-2e5), r"audio with a sample of 2e\+05"),
    "an absurd sample, resampled": (
        partial(spoken, rate=8000, change=lambda wave: wave.__setitem__(8000, 1e30)),
        "audio with a sample of",
    ),
    "another sampling rate": (at_half_the_rate, "the audio has 8000 samples a second, the manifest says 16000"),
    "no recording": (without_recording, "the cut has no audio"),
    "a click": (partial(spoken, samples=100), "100 samples of audio, a feature frame needs 160|lasts 0.01 s"),
    "a channel that is not there": (lambda d: replace(spoken(d), channel=3), "unreadable audio"),
    "an end after that of its recording": (
        lambda d: replace(spoken(d), duration=9.0),
        "unreadable audio",
    ),
}
SUPERVISION = {
    "text of after the cut": (
        supervised(1.0, 2.5),
        "its supervision s lasts from 1.00 to 3.50 s, the cut from 0 to 1.00",
    ),
    "text of before the cut": (
        supervised(-2.0, 1.0),
        "its supervision s lasts from -2.00 to -1.00 s, the cut from 0 to",
    ),
    "text of more than the cut": (supervised(0.5, 0.7), "its supervision s lasts from 0.50 to 1.20 s"),
}
STORED = {
    "an absurd feature": (with_features(lambda v: v.__setitem__((3, 5), 1e30)), r"features with a value of 1e\+30"),
    "a feature below any": (with_features(lambda v: v.__setitem__((3, 5), -200)), "features with a value of -200"),
    "a feature of NaN": (with_features(lambda v: v.__setitem__((3, 5), np.nan)), "features with NaN or infinite"),
    "another frame shift": (
        with_features(frame_shift=0.0125),
        "a frame every 12.5 ms, the model reads one every 10 ms",
    ),
    "another number of bins": (with_features(num_features=40), "stored features have 40 bins, the model reads 8"),
    "features that are not there": (with_features(storage_path="/nowhere"), "unreadable features"),
}
TEXT = {
    "no text": (lambda d: replace(spoken(d), supervisions=[]), "empty transcript"),
    "a character that is not known": (partial(spoken, text="ZOO"), "character 'Z' of 'ZOO' is not in"),
    "lower case": (
        partial(spoken, text="low"),
        "the tokenizer was trained on upper case, and the transcript is in ano",
    ),
    "<unk>": (partial(spoken, text="LOW <unk>"), "'<unk>' in '<unk>' is reserved: it marks what nobody understood"),
    "more text than time": (partial(spoken, text="LOW " * 99), "labels need .* frames, the encoder gives"),
    "a moment": (partial(spoken, samples=1000), "lasts 0.06 s, outside 0.1 to 30 s"),
}


@pytest.fixture
def manifest(tiny_corpus, tmp_path):
    """A function that writes a manifest of two good utterances and a bad one between them."""
    good = list(open_cuts([str(tiny_corpus.dev)]))[:2]

    def write(make):
        write_cuts([good[0], make(tmp_path), good[1]], tmp_path / "cuts.jsonl.gz")
        return str(tmp_path / "cuts.jsonl.gz")

    return write


def training_data(manifest, corpus, **options):
    data = DataOptions(train_cuts=[manifest], valid_cuts=[str(corpus.dev)], workers=0, buckets=2, **options)
    config = TrainConfig(run="unused", model=small_options(mel_bins=BINS), data=data)
    return config, TrainingData(config, load_tokenizer(corpus.tokenizer))


def trained_on(data):
    """The utterances of an epoch, and those that are named instead with their reasons."""
    draws = takewhile(lambda draw: draw.position.epoch == 0, data.stream(Position()).whole())
    batches = [data.train_set[draw] for draw in draws]
    skipped = {one.id: one.reason for batch in batches for one in batch.skipped}
    return sorted(id_ for batch in batches for id_ in batch.ids), skipped | data.admission.refused


def half_recorded(directory):
    return MixedCut("bad", [MixTrack(spoken(directory)), MixTrack(without_recording(directory))])


@pytest.mark.parametrize("make", [without_recording, half_recorded])
def test_an_utterance_without_audio_stops_no_training_at_several_speeds(manifest, tiny_corpus, make):
    _, data = training_data(manifest(make), tiny_corpus, speed_factors=[0.9, 1.1])
    ids, named = trained_on(data)
    assert [id_.partition("_")[0] for id_ in ids] == ["dev-0", "dev-1"]
    assert named == {"bad": "the cut has no audio: give a manifest that names its recording"}


@pytest.mark.parametrize(("make", "reason"), (every := AUDIO | SUPERVISION | STORED | TEXT).values(), ids=every)
def test_training_names_it_and_goes_on_with_the_others(manifest, tiny_corpus, make, reason):
    _, data = training_data(manifest(make), tiny_corpus)
    ids, named = trained_on(data)
    assert ids == ["dev-0", "dev-1"]
    assert list(named) == ["bad"]
    assert re.search(reason, named["bad"])
    assert "\n" not in named["bad"]


@pytest.mark.parametrize(("make", "reason"), (every := AUDIO | SUPERVISION | STORED).values(), ids=every)
def test_decoding_names_it_and_goes_on_with_the_others(manifest, tiny_corpus, make, reason):
    results = list(decoder(tiny_corpus)(open_cuts([manifest(make)])))
    skipped = [result for result in results if isinstance(result, Skipped)]
    assert sorted(result[0].id for result in results if result not in skipped) == ["dev-0", "dev-1"]
    assert [one.id for one in skipped] == ["bad"]
    assert re.search(reason, skipped[0].reason)


@pytest.mark.parametrize(("make", "reason"), AUDIO.values(), ids=AUDIO)
def test_features_and_shar_name_it_and_go_on_with_the_others(manifest, tmp_path, make, reason):
    cuts = list(open_cuts([manifest(make)]))
    stored, skipped = store_chunk(Task(cuts, [1.0, 0.9], Store(tmp_path / "feats"), BINS))
    assert [cut.id for cut in stored] == ["dev-0", "dev-0_sp0.9", "dev-1", "dev-1_sp0.9"]
    packed: list[Skipped] = []
    assert [cut.id for cut in readable(cuts, packed)] == ["dev-0", "dev-1"]
    for one in (*skipped, *packed):
        assert one.id == "bad"
        assert re.search(reason, one.reason)
    assert len(skipped) == len(packed) == 1


def decoder(corpus, search=GreedyOptions, streaming=False, bias=None):
    """A decoder with a small causal model, whose joiner's bias is `bias` where given."""
    options, units = small_options(mel_bins=BINS, causal=True, chunk_frames=[4]), load_tokenizer(corpus.tokenizer)
    model = Transducer(options, units.vocab_size).eval()
    if bias is not None:
        torch.nn.init.constant_(model.joiner.output.bias, bias)
    trained = Trained(model, units, TrainConfig(run="unused", model=options), "none")
    return Decoder(trained, search(), torch.device("cpu"), streaming)


def test_what_audio_can_be_is_let_through(manifest, tiny_corpus):
    for make in (
        with_sample(LARGEST_SAMPLE),
        partial(spoken, change=lambda wave: wave.__imul__(2.0**16)),  # 16-bit integers, taken for floats
        partial(spoken, change=lambda wave: wave.fill(0)),
        partial(spoken, samples=8000, rate=8000),
        lambda directory: spoken(directory).perturb_speed(1.1),
        lambda directory: spoken(directory, samples=44100, rate=44100).resample(16000).resample(22050),
        supervised(0.9, 0.2, "TOP"),  # Lhotse's times are rounded
        supervised(5.0, 1.0, text=""),
        with_features(),
        lambda directory: with_features()(directory).pad(duration=1.5, preserve_id=True),
    ):
        _, data = training_data(manifest(make), tiny_corpus)
        ids, named = trained_on(data)
        assert len(ids) == 3, named


def test_absurd_features_are_named_after_a_room_made_them(manifest, tiny_corpus, monkeypatch):
    _, data = training_data(manifest(spoken), tiny_corpus, rooms=RoomOptions(probability=1.0))
    monkeypatch.setattr("asr.data.waves.reverberated", lambda samples, *_: samples * np.float32(1e30))
    ids, named = trained_on(data)
    assert ids == []
    assert set(named) == {"bad", "dev-0", "dev-1"}
    assert all(re.match("features with (a value of|NaN)", reason) for reason in named.values())


def test_an_absurd_sample_does_not_spoil_the_normalisation(manifest, tiny_corpus):
    config, data = training_data(manifest(with_sample(1e38)), tiny_corpus)
    model = make_task(config, data.admission.tokenizer.vocab_size).model
    estimate_normalization(model, data)
    assert model.encoder.normalize.mean.abs().max() < 20
    assert model.encoder.normalize.std.max() < 10


@pytest.mark.parametrize(
    ("make", "reason"),
    [(deleted, "bad and 1 more: unreadable audio"), (partial(spoken, text="low"), "bad and 1 more: the tokenizer was")],
)
def test_the_reasons_are_told_where_no_statistics_can_be_estimated(tiny_corpus, tmp_path, make, reason):
    cut = make(tmp_path)
    write_cuts([cut, cut.with_id("too")], tmp_path / "cuts.jsonl.gz")
    config, data = training_data(str(tmp_path / "cuts.jsonl.gz"), tiny_corpus)
    model = make_task(config, data.admission.tokenizer.vocab_size).model
    with pytest.raises(InputError, match=f"can be trained on: {reason}") as raised:
        estimate_normalization(model, data)
    assert "\n" not in str(raised.value)


def test_many_transcripts_in_another_case_are_one_hint_before_the_first_step(tiny_corpus, tmp_path, caplog):
    cuts = list(open_cuts([str(tiny_corpus.train)]))
    lower = [replace(cut, supervisions=[replace(cut.supervisions[0], text="low top")]) for cut in cuts[:-1]]
    write_cuts([*lower, cuts[-1]], tmp_path / "cuts.jsonl.gz")
    _, data = training_data(str(tmp_path / "cuts.jsonl.gz"), tiny_corpus)
    batch = next(data.batches(Position()))
    assert batch.ids == [cuts[-1].id]
    SkipLog(logging.getLogger("asr")).add(batch.skipped)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in said] == ["skipped train-00 and 22 more"]


def test_a_tokenizer_is_trained_on_the_other_transcripts(manifest, tmp_path, capsys):
    words = TokenizerConfig(cuts=[manifest(partial(spoken, text="LOW <unk>"))], output=str(tmp_path / "t"), kind="char")
    tokenizer.main(words)
    assert capsys.readouterr().err.startswith("skipped bad: '<unk>' in '<unk>' is reserved")
    spelt = "".join(load_tokenizer(tmp_path / "t").pieces[2:])
    assert "O" in spelt
    assert "u" not in spelt


NO_NUMBER = "the score of what was recognised is nan: the model's weights are not sound"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("search", [GreedyOptions, BeamOptions])
@pytest.mark.parametrize("bias", [math.nan, math.inf])
def test_an_utterance_whose_score_is_no_number_is_named_instead_of_decoded(tiny_corpus, search, streaming, bias):
    results = list(decoder(tiny_corpus, search, streaming, bias)(open_cuts([str(tiny_corpus.dev)])))
    assert sorted(result.id for result in results) == [f"dev-{n}" for n in range(6)]
    assert {result.reason.partition(";")[0] for result in results} == {NO_NUMBER}


@pytest.mark.parametrize("search", [GreedyOptions, BeamOptions])
def test_a_file_whose_words_have_no_scores_is_named_while_it_is_said(tiny_corpus, search, capsys):
    unsound, audio = decoder(tiny_corpus, search, True, math.nan), tiny_corpus.directory / "dev-0.flac"
    with pytest.raises(InputError, match=f"^{re.escape(str(audio))}: {NO_NUMBER}"):
        say(Recognizer(unsound.trained, unsound.device), unsound.options, audio)
    assert capsys.readouterr().out == ""


def test_a_file_with_an_absurd_sample_is_named_while_it_is_said(tiny_corpus, tmp_path):
    with_sample(1e38)(tmp_path)
    sound = decoder(tiny_corpus, streaming=True)
    with pytest.raises(InputError, match=r"^\S*bad.wav: audio with a sample of 1e\+38"):
        say(Recognizer(sound.trained, sound.device), sound.options, tmp_path / "bad.wav")
