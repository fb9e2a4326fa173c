"""The library's face: one object that recognises files, arrays and streams, as the commands do."""

import io
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from small_model import small_options
from sounds import half
from torchaudio.functional import resample

import asr
from asr.cli.main import main
from asr.config import BeamOptions, GreedyOptions, TrainConfig
from asr.data.audio import AudioArray, listen
from asr.data.tokenizer import load_tokenizer
from asr.decode.arpa import write_arpa
from asr.decode.ngram import NGrams
from asr.decode.transcript import Reading, in_one
from asr.errors import InputError
from asr.models.transducer import Transducer
from asr.recognizer import Recognizer, Skipped
from asr.runs.trained import Trained

RATE = 16000


@pytest.fixture(scope="module")
def model(streaming_run) -> Recognizer:
    return asr.load(streaming_run, device="cpu")


@pytest.fixture(scope="module")
def files(tiny_corpus) -> list[str]:
    return [str(tiny_corpus.directory / f"dev-{n}.flac") for n in range(6)]


def command(capfd, *words) -> str:
    assert main(["transcribe", *map(str, words), "device=cpu"]) == 0
    return capfd.readouterr().out


def rows(transcripts) -> list[dict]:
    """Transcripts as format=json has them."""
    return [
        {
            "file": one.name,
            "text": one.text,
            "words": [
                {"word": word.text, "start": word.start, "end": round(word.end, 3), "confidence": word.confidence}
                for word in one.words
            ],
        }
        for one in transcripts
    ]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["decode=beam", "decode.beam=3"], {"beam": 3}),
        (["decode.blank_penalty=2", "piece_seconds=1"], {"blank_penalty": 2, "piece_seconds": 1}),
    ],
)
def test_files_are_transcribed_as_by_the_command(model, streaming_run, files, capfd, words, options):
    printed = command(capfd, *files, f"run={streaming_run}", "format=json", *words)
    found = model.transcribe(files, **options)
    assert rows(found) == [json.loads(line) for line in printed.splitlines()]
    assert sum(len(one.words) for one in found) > 8
    assert {len(one.nbest) for one in found} == {options.get("beam", 1)}
    assert all(one.nbest[0].score >= one.nbest[-1].score for one in found)


def as_arrays(file):
    samples, _ = soundfile.read(file, dtype="int16")
    floats = samples / 32768
    yield from (samples, floats, floats.astype(np.float32), torch.from_numpy(floats), samples.astype(np.int32) << 16)
    yield samples.astype(">i2")


def test_an_array_is_transcribed_as_its_file(model, files):
    expected = model.transcribe(files[0])
    for samples in as_arrays(files[0]):
        found = model.transcribe(samples, sampling_rate=RATE)
        assert (found.nbest, found.seconds, found.faults) == (expected.nbest, expected.seconds, [])
    eight, _ = soundfile.read(files[0], dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, eight, RATE, subtype="PCM_U8", format="WAV")
    file.seek(0)
    as_read = np.round(soundfile.read(file, dtype="float32")[0] * 128 + 128).astype(np.uint8)
    assert model.transcribe(as_read, RATE).words == model.transcribe((as_read / np.float32(128)) - 1, RATE).words


def test_a_result_does_not_depend_on_what_is_beside_it(model, files):
    samples = [soundfile.read(file, dtype="float32")[0] for file in files]
    alone = [model.transcribe(file, beam=2).nbest for file in files]
    mixed = model.transcribe([*samples, *files[::-1], files[0]], RATE, beam=2, batch_size=5)
    assert [one.nbest for one in mixed] == [*alone, *alone[::-1], alone[0]]
    assert [mixed[n].name for n in (5, 6, -1)] == ["audio 5", files[5], f"{files[0]} (2)"]
    assert model.transcribe([]) == []


def test_a_stream_says_what_the_command_does(model, streaming_run, files, capfd):
    spoken = 0
    for file in files[:3]:
        printed = command(capfd, file, f"run={streaming_run}", "--streaming")
        samples, _ = soundfile.read(file, dtype="float32")
        for size in (len(samples), 1600, 777):
            stream = model.stream(sampling_rate=RATE)
            said = [stream.add(samples[begin : begin + size]) for begin in range(0, len(samples), size)]
            said.append(stream.end())
            assert "".join(one.text for one in said) + "\n" == printed
            words = [word for one in said for word in one.words]
            assert words == model.transcribe(file).words  # a tone is shorter than what would end a line
            spoken += len(words)
        assert stream.end().text == ""
        with pytest.raises(InputError, match="the stream has ended"):
            stream.add(samples)
    assert spoken > 3 * 3


def test_a_stream_of_another_rate_says_what_one_of_16_khz_does(model, files):
    samples = torch.from_numpy(np.concatenate([soundfile.read(file, dtype="float32")[0] for file in files[:2]]))
    finer = resample(samples, RATE, 44100)
    expected = "".join(one.text for one in model.stream().read([resample(finer, 44100, RATE)]))
    said = list(model.stream(sampling_rate=44100).read([finer[:5000], finer[5000:5001], finer[5001:]]))
    assert "".join(one.text for one in said) == expected
    assert expected.split()
    assert any(one.words for one in said[:-1])  # before the end


SAMPLES = np.zeros(RATE, dtype=np.float32)
BAD = {
    "no rate": (SAMPLES, {}, "no sampling rate of their own"),
    "rate 0": (SAMPLES, {"sampling_rate": 0}, "sampling_rate=0: must be a whole number"),
    "rate a fraction": (SAMPLES, {"sampling_rate": 16000.5}, "sampling_rate=16000.5: must be a whole number"),
    "rate absurd": (SAMPLES, {"sampling_rate": 10**9}, "sampling_rate=1000000000: must be a whole number"),
    "not finite": (SAMPLES + np.nan, {"sampling_rate": RATE}, "audio with NaN or infinite values"),
    "integers in floats": (np.float32([0, 12000, -9000] * 4000), {"sampling_rate": RATE}, "divide by 32768"),
    "too large for float32": (SAMPLES + 1e300, {"sampling_rate": RATE}, "audio with NaN or infinite values"),
    "absurd": (SAMPLES + 1e30, {"sampling_rate": RATE}, "audio with a sample of 1e+30"),
    "no samples": (SAMPLES[:0], {"sampling_rate": RATE}, "holds no samples"),
    "too few": (SAMPLES[:100], {"sampling_rate": RATE}, "100 samples of audio"),
    "two channels": (np.stack([SAMPLES, SAMPLES]), {"sampling_rate": RATE}, "samples of shape (2, 16000)"),
    "one number": (np.zeros(()), {"sampling_rate": RATE}, "samples of shape ()"),
    "complex": (SAMPLES.astype(complex), {"sampling_rate": RATE}, "samples of type complex128"),
    "wide integers": (SAMPLES.astype(np.int64), {"sampling_rate": RATE}, "samples of type int64"),
    "numbers": ([0.1, 0.2], {"sampling_rate": RATE}, "a float: samples come in an array"),
    "nothing": (None, {"sampling_rate": RATE}, "a NoneType: samples come in an array"),
    "no file": ("nowhere.wav", {}, "nowhere.wav: no such file"),
    "an empty file": (os.devnull, {}, "not a readable audio file (it is empty: 0 bytes)"),
    "a text": (__file__, {}, "not a readable audio file (it is text)"),
    "unknown option": (SAMPLES, {"sampling_rate": RATE, "blank_penalti": 1}, "did you mean blank_penalty?"),
    "option of another type": (SAMPLES, {"sampling_rate": RATE, "beam": "4"}, "beam='4': needs a value of type int"),
    "a truth for a number": (SAMPLES, {"sampling_rate": RATE, "beam": True}, "beam=True: needs a value of type int"),
    "option out of range": (SAMPLES, {"sampling_rate": RATE, "beam": 0}, "beam=0: must be 1 to 1000"),
    "readings of nothing": (
        SAMPLES,
        {"sampling_rate": RATE, "readings": 8},
        "lm=… or internal_lm_weight=… or word_lm=… or word_list=… or phrases=…",
    ),
    "weight of nothing": (SAMPLES, {"sampling_rate": RATE, "lm_weight": 0.4}, "has no effect without lm=…: give that"),
    "unknown search": (SAMPLES, {"sampling_rate": RATE, "search": "bean"}, "did you mean beam?"),
    "said twice": (SAMPLES, {"sampling_rate": RATE, "search": BeamOptions(), "beam": 3}, "beam: say it in the Beam"),
    "phrase": (SAMPLES, {"sampling_rate": RATE, "phrases": ["LOW", "é"]}, "phrases: 'é': character 'é'"),
    "phrases for k2": (SAMPLES, {"sampling_rate": RATE, "search": "k2_fast_beam", "phrases": ["LOW"]}, "takes none"),
    "pieces": (SAMPLES, {"sampling_rate": RATE, "piece_seconds": 0.5}, "piece_seconds=0.5: must be a number"),
}


@pytest.mark.parametrize(("audio", "options", "message"), BAD.values(), ids=BAD)
def test_what_is_at_fault_is_named_in_one_line(model, audio, options, message, recwarn):
    with pytest.raises(asr.InputError) as caught:
        model.transcribe(audio, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [one for one in recwarn if one.category is not DeprecationWarning] == []  # of Lhotse's


@pytest.mark.parametrize("name", ["not finite", "two channels", "wide integers", "one number", "nothing"])
def test_a_stream_names_what_is_at_fault(model, name):
    samples, _, message = BAD[name]
    stream = model.stream()
    with pytest.raises(InputError, match="^[^\n]*$") as caught:
        stream.add(samples)
    assert message in str(caught.value)
    assert stream.add(SAMPLES[:0]).text == ""  # 0 samples are nothing yet


def test_one_at_fault_costs_no_other(model, files, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF but no more")
    mixed = [files[0], tmp_path / "bad.wav", SAMPLES[:0], files[1]]
    found = list(model.transcribe_each(mixed, RATE))
    assert [type(one) for one in found] == [asr.Transcript, Skipped, Skipped, asr.Transcript]
    assert [found[0].nbest, found[3].nbest] == [one.nbest for one in model.transcribe([files[0], files[1]])]
    with pytest.raises(InputError, match=r"bad.wav: not a readable audio file .*; 2 of 4 cannot be transcribed"):
        model.transcribe(mixed, RATE)


def test_what_is_heard_from_a_file_is_what_is_heard_from_memory(model, files, tmp_path, monkeypatch):
    samples = np.concatenate([soundfile.read(file, dtype="float32")[0] for file in files])
    expected = model.transcribe(samples, RATE)
    assert len(expected.words) > 3
    monkeypatch.setattr("asr.data.audio.IN_MEMORY_SECONDS", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    copied = listen("a", AudioArray(samples, RATE))
    assert [str(path) for path in tmp_path.iterdir()] == [copied.recording.sources[0].source]
    del copied
    assert model.transcribe(samples, RATE).nbest == expected.nbest
    assert list(tmp_path.iterdir()) == []  # the copies have gone


def test_what_was_skipped_is_told(model, files, tmp_path):
    samples, _ = soundfile.read(files[0])
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV")
    (tmp_path / "half.wav").write_bytes(half(file.getvalue()))
    found = model.transcribe(tmp_path / "half.wav")
    assert found.in_part
    assert found.skipped_seconds == pytest.approx(len(samples) / RATE - found.seconds, abs=0.01)
    assert [fault for fault in found.faults if "the file is damaged" in fault]
    whole = model.transcribe(files[0])
    assert (whole.in_part, whole.skipped_seconds, whole.faults) == (False, 0.0, [])


def test_phrases_may_be_said_or_be_in_a_file(model, files, tmp_path):
    (tmp_path / "phrases.txt").write_text("HIGH\t9\nTOP\t9\n")
    listed = model.transcribe(files, beam=3, phrases=["HIGH\t9", "TOP\t9"])
    assert listed == model.transcribe(files, search=BeamOptions(beam=3, phrases=str(tmp_path / "phrases.txt")))
    assert listed == model.transcribe(files, beam=3, phrases=tmp_path / "phrases.txt")
    assert [one.nbest for one in listed] != [one.nbest for one in model.transcribe(files, beam=3)]
    assert listed == model.transcribe(files, search=BeamOptions(beam=3), phrases=("HIGH\t9", "TOP\t9"))
    assert model.transcribe(files, beam=3, phrases=[], phrase_boost=2.0) == model.transcribe(files, beam=3)


@pytest.mark.parametrize("search", [BeamOptions(beam=4), GreedyOptions(readings=4)], ids=["beam", "greedy"])
@pytest.mark.parametrize("kind", ["word_list", "word_lm"])
def test_words_that_are_expected_take_the_place_of_others(model, files, tmp_path, search, kind):
    path = tmp_path / "words"
    if kind == "word_list":
        path.write_text("LOW\nWINTER\n")
        given = {"word_list": str(path), "oov_penalty": 1000.0}
    else:
        write_arpa(path, NGrams(1, {(): {"<s>": -99, "</s>": -1, "<unk>": -200, "LOW": 0, "WINTER": 0}}))
        given = {"word_lm": str(path), "word_lm_weight": 5.0}
    free = model.transcribe(files, search=search if search.name == "beam" else GreedyOptions())
    kept = model.transcribe(files, search=replace(search, **given))
    said = [{word.text for one in found for word in one.words} for found in (free, kept)]
    assert set() < said[1] <= {"LOW", "WINTER"}
    assert said[0] - said[1]


def test_the_search_that_was_made_serves_again(model):
    phrases = ["LOW"]
    first = model.decoder(beam=3, phrases=phrases)
    assert model.decoder(beam=3, phrases=phrases) is first
    assert model.decoder("beam", beam=3, phrases=("LOW",)) is first
    phrases[0] = "HIGH"
    assert model.decoder(beam=3, phrases=phrases) is not first
    assert model.decoder(beam=3).search.beam == 3
    for _ in range(2):
        with pytest.raises(InputError, match="beam"):
            model.decoder(beam=-3)
    assert model.decoder(beam=1).search.beam == 1
    with pytest.raises(InputError, match="beam"):
        model.decoder(beam=True)


def test_a_model_that_is_not_causal_has_no_stream(tiny_corpus):
    tokenizer, options = load_tokenizer(tiny_corpus.tokenizer), small_options(mel_bins=80)
    trained = Trained(Transducer(options, tokenizer.vocab_size), tokenizer, TrainConfig("x", model=options), "none")
    with pytest.raises(InputError, match="^streaming: the model was trained on whole utterances; train with"):
        Recognizer(trained, torch.device("cpu")).stream()


def test_what_is_no_run_is_said_to_be_none(tmp_path):
    with pytest.raises(InputError, match="no config.yaml there"):
        asr.load(tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cuda", torch.device("cuda", 1)])
def test_a_device_that_is_not_there_is_refused(streaming_run, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"^device={device}.*(choose auto, cpu or cuda|use device=cpu or auto)$"):
        asr.load(streaming_run, device=device)


def test_options_that_are_given_stay_as_they_are(model, files):
    search = BeamOptions(beam=2)
    first = model.transcribe(files[0], search=search)
    search.beam = 3
    assert [len(first.nbest), len(model.transcribe(files[0], search=search).nbest)] == [2, 3]
    with pytest.raises(InputError, match="no such home directory"):
        model.transcribe(files[0], search=(search := BeamOptions(lm="~nobody-is-called-so/x")))
    assert search.lm == "~nobody-is-called-so/x"


def test_readings_of_pieces_are_put_together_likeliest_first():
    rng = np.random.default_rng(0)
    pieces = [
        [
            Reading(f"{name}{n}", [], round(float(score), 4))
            for n, score in enumerate(-np.sort(rng.uniform(0, 9, count)))
        ]
        for name, count in (("A", 3), ("B", 1), ("C", 2), ("D", 3))
    ]
    expected = sorted(itertools.product(*pieces), key=lambda way: -sum(reading.score for reading in way))[:3]
    found = in_one(pieces)
    assert [one.text for one in found] == [" ".join(reading.text for reading in way) for way in expected]
    assert [one.score for one in found] == [pytest.approx(sum(one.score for one in way), abs=1e-3) for way in expected]
    assert found[0].text == "A0 B0 C0 D0"


def test_a_fresh_interpreter_needs_little(streaming_run, files):
    script = (
        "import sys, asr\n"
        "assert 'torch' not in sys.modules\n"
        f"model = asr.load({str(streaming_run)!r})\n"
        f"print(model.transcribe({files[0]!r}).text)\n"
        "model.stream().end()\n"
        "print(sys.modules.keys() & {'hydra', 'torch._dynamo', 'matplotlib', 'asr.train', 'asr.cli'})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    text, modules = done.stdout.splitlines()
    assert (text, modules, done.stderr) == (asr.load(streaming_run).transcribe(files[0]).text, "set()", "")
    assert text
