"""Transcribing and decoding what is damaged, joined, too long, or interrupted: nothing is lost without a word."""

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, Recording
from lhotse.audio import AudioSource
from sounds import data_size, half, hole, stated_by_flac, without_xing

from asr.cli.align import MakeTrained, load_model
from asr.cli.main import main
from asr.config import AlignConfig
from asr.data.audio_files import names_of, without_white_space
from asr.data.corpus import make_cut, write_cuts
from asr.data.store import Store, Task, store_chunk
from asr.decode.decoder import Decoder
from asr.errors import InputError
from asr.files import replace_directory
from asr.runs import trained as module
from asr.train.task import load_task

RATE = 16000
BINS = 80


def asr(capfd, *words: object) -> tuple[int, str, str]:
    """Run a command in this process: exit status, standard output, standard error, also what C libraries print."""
    status = main([str(word) for word in words])
    captured = capfd.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def run(streaming_run) -> Path:
    """A run that recognises some tones, as a stream too."""
    return streaming_run


@pytest.fixture(scope="module")
def speech(tiny_corpus) -> np.ndarray:
    """Samples (n,) of several utterances, one after the other."""
    return np.concatenate([soundfile.read(tiny_corpus.directory / f"dev-{n}.flac")[0] for n in range(4)])


def encoded(samples, kind, subtype=None, **options) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, subtype, format=kind, **options) as sound:
        sound.write(samples)
    return file.getvalue()


def recording(path: Path, samples: int) -> Recording:
    """What a manifest says of a file: that it has so many samples."""
    return Recording(path.stem, [AudioSource("file", [0], str(path))], RATE, samples, samples / RATE)


def words_of(out: str) -> list[tuple[str, float]]:
    """Words and their beginnings, of what format=json prints."""
    return [(word["word"], word["start"]) for word in json.loads(out)["words"]]


WAYS = {
    "whole.sph": lambda x: encoded(x, "NIST"),
    "unmeasured.wav": lambda x: data_size(encoded(x, "WAV"), 0),
    "piped.wav": lambda x: data_size(encoded(x, "WAV"), 0xFFFFFFFF),
    "unmeasured.flac": lambda x: stated_by_flac(encoded(x, "FLAC"), 0),
    "joined.wav": lambda x: encoded(x[: len(x) // 2], "WAV") + encoded(x[len(x) // 2 :], "WAV"),
    "joined.flac": lambda x: encoded(x[: len(x) // 2], "FLAC") + encoded(x[len(x) // 2 :], "FLAC"),
}


@pytest.mark.parametrize("name", WAYS)
def test_all_of_a_file_is_transcribed(run, speech, tmp_path, capfd, name):
    (tmp_path / name).write_bytes(WAYS[name](speech))
    (tmp_path / "as_it_is.wav").write_bytes(encoded(speech, "WAV"))
    words = [f"run={run}", "device=cpu"]
    expected = words_of(asr(capfd, "transcribe", tmp_path / "as_it_is.wav", *words, "format=json")[1])
    status, out, err = asr(capfd, "transcribe", tmp_path / name, *words, "format=json")
    assert (status, words_of(out), err) == (0, expected, "")
    assert len(expected) >= 4
    names = (name, "as_it_is.wav")
    streamed, whole = (asr(capfd, "transcribe", tmp_path / file, *words, "--streaming")[1] for file in names)
    assert streamed == whole


def test_mp3_of_a_pipe_is_transcribed_to_its_end_and_without_noise(run, speech, tmp_path, capfd):
    long = np.tile(speech, 8)
    content = encoded(long, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)
    found = []
    for name, mp3 in (("as_it_is.mp3", content), ("piped.mp3", without_xing(content)), ("joined.mp3", content * 2)):
        (tmp_path / name).write_bytes(mp3)
        words = [f"run={run}", "device=cpu", "format=json", "piece_seconds=2"]
        status, out, err = asr(capfd, "transcribe", tmp_path / name, *words)
        assert (status, err) == (0, "")
        found.append(words_of(out))
    seconds = len(long) / RATE
    assert seconds > 30
    for words, length in zip(found, (seconds, seconds, 2 * seconds)):
        assert words[-1][1] > length - 5
        assert len(words) == pytest.approx(len(found[0]) * length / seconds, rel=0.3)


def test_what_is_left_of_a_file_is_transcribed_and_the_rest_named(run, speech, tmp_path, capfd):
    for kind, suffix in (("FLAC", "flac"), ("WAV", "wav"), ("MP3", "mp3")):
        path = tmp_path / f"cut_off.{suffix}"
        path.write_bytes(half(encoded(speech, kind)))
        for words in ([], ["--streaming"]):
            status, out, err = asr(capfd, "transcribe", path, f"run={run}", "device=cpu", *words)
            assert status == 0
            assert out.split()
            assert f" s of {len(speech) / RATE:.2f} s cannot be read: the file is damaged" in err.splitlines()[0]


def test_standard_input_and_a_directory(run, speech, tmp_path, capfd, monkeypatch):
    directory = tmp_path / "a" / "b"
    directory.mkdir(parents=True)
    (directory / "x.wav").write_bytes(encoded(speech, "WAV"))
    (directory / "notes.txt").write_text("no audio")
    words = [f"run={run}", "device=cpu"]
    _, expected, _ = asr(capfd, "transcribe", directory / "x.wav", *words)
    assert asr(capfd, "transcribe", tmp_path / "a", *words)[:2] == (0, expected)
    for more in ([], ["--streaming"]):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(encoded(speech, "FLAC"))))
        assert asr(capfd, "transcribe", "-", *words, *more)[1] == asr(capfd, "transcribe", directory, *words, *more)[1]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(encoded(speech, "WAV"))))
    assert asr(capfd, "transcribe", "-", *words, f"output={tmp_path / 'o'}")[0] == 0
    assert (tmp_path / "o" / "stdin.txt").read_text() == expected
    (tmp_path / "empty").mkdir()
    status, _, err = asr(capfd, "transcribe", tmp_path / "empty", *words)
    assert (status, "empty: a directory without audio" in err) == (2, True)


def test_a_transcript_of_the_user_s_beside_the_audio_is_not_replaced(run, speech, tmp_path, capfd):
    (tmp_path / "x.wav").write_bytes(encoded(speech, "WAV"))
    (tmp_path / "x.txt").write_text("as it was said")
    words = ["transcribe", tmp_path, f"run={run}", "device=cpu"]
    status, _, err = asr(capfd, *words, f"output={tmp_path}")
    assert (status, f"{tmp_path / 'x.txt'}: is there, beside its audio" in err) == (2, True)
    assert (tmp_path / "x.txt").read_text() == "as it was said"
    for _ in range(2):  # elsewhere, and of another kind, one's own results may be replaced
        assert asr(capfd, *words, f"output={tmp_path / 'o'}")[0] == 0
    assert asr(capfd, *words, f"output={tmp_path}", "format=json")[0] == 0


def test_files_of_the_same_name_are_told_apart(run, speech, tmp_path, capfd):
    for name in ("in/a/x.wav", "in/b/x.wav", "in/b/y.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(speech, "WAV"))
    words = [f"run={run}", "device=cpu", "format=ctm"]
    assert asr(capfd, "transcribe", tmp_path / "in", *words, f"output={tmp_path / 'out'}")[0] == 0
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.ctm")) == [
        "a/x.ctm",
        "b/x.ctm",
        "b/y.ctm",
    ]
    assert (tmp_path / "out" / "a" / "x.ctm").read_text().startswith("a/x 1 ")
    assert names_of(["x/a.wav", "x/a.flac"]) == {"x/a.wav": "a.wav", "x/a.flac": "a.flac"}
    assert names_of(["x/a.wav", "-"]) == {"x/a.wav": "a", "-": "stdin"}
    with pytest.raises(InputError, match="named twice"):
        names_of(["a.wav", "./a.wav"])


def test_a_blank_in_a_name_is_no_blank_in_a_ctm(run, speech, tmp_path, capfd):
    for name in ("a b.wav", "a_b.wav", "c.wav"):
        (tmp_path / name).write_bytes(encoded(speech, "WAV"))
    words = [f"run={run}", "device=cpu", "format=ctm", f"output={tmp_path / 'out'}"]
    assert asr(capfd, "transcribe", tmp_path, *words)[0] == 0
    found = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.ctm")}
    assert {name: text.split(" 1 ")[0] for name, text in found.items()} == {
        "a b.ctm": "a_b-2",
        "a_b.ctm": "a_b",
        "c.ctm": "c",
    }
    assert all(len(line.split()) == 6 for text in found.values() for line in text.splitlines())
    names = {"1": "a b", "2": "a\tb", "3": "a_b-2", "4": " "}
    assert without_white_space(names) == {"1": "a_b", "2": "a_b-3", "3": "a_b-2", "4": "_"}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_last_line_counts_files_that_are_transcribed_in_part(run, speech, tmp_path, capfd, streaming):
    files = [tmp_path / name for name in ("good.wav", "half.wav", "bad.wav")]
    for path, content in zip(files, (encoded(speech, "WAV"), half(encoded(speech, "WAV")), b"RIFF but no more")):
        path.write_bytes(content)
    words = [f"run={run}", "device=cpu", *(["--streaming"] if streaming else [])]
    found = []
    for chosen in (files, files[:2], [files[0], files[2]]):
        status, _, err = asr(capfd, "transcribe", *chosen, *words)
        found.append((status, err.splitlines()[-1]))
    assert found == [
        (1, "asr transcribe: 1 of 3 files could not be transcribed, 1 in part only: see above"),
        (0, "1 of 2 files could be transcribed in part only: see above"),
        (1, "asr transcribe: 1 of 2 files could not be transcribed: see above"),
    ]
    status, _, err = asr(capfd, "transcribe", files[1], *words)
    assert (status, "cannot be read: the file is damaged" in err, "in part" in err) == (0, True, False)


@pytest.mark.parametrize(("seconds", "longest"), [([0.8, 1.2, 1.4, 1.6, 1.8, 1.9, 2.0, 2.5], 2.0), (None, 30.0)])
def test_pieces_are_as_long_as_what_the_run_was_trained_on(run, speech, tmp_path, capfd, monkeypatch, seconds, longest):
    trained = tmp_path / "run"
    shutil.copytree(run, trained)
    record = {"utterances": 7, "sha256": "", **({"seconds": seconds} if seconds else {})}
    (trained / "data.json").write_text(json.dumps({"data.train_cuts": record}))
    found = []
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda self, batch: found.append(batch) or decode(self, batch))
    (tmp_path / "long.wav").write_bytes(encoded(np.tile(speech, 12), "WAV"))
    total = 12 * len(speech) / RATE
    assert total > 1.2 * longest
    words = [f"run={trained}", "device=cpu", "format=json"]
    for more, most in (([], longest), (["piece_seconds=1.5"], 1.5), (["decode.max_seconds=4"], min(longest, 4.0))):
        found.clear()
        status, out, _ = asr(capfd, "transcribe", tmp_path / "long.wav", *words, *more)
        frames = [int(count) for batch in found for count in batch.feature_frames]
        assert (status, max(frames) <= 100 * most + 1) == (0, True)
        assert len(frames) >= total / most
        said = words_of(out)
        assert [start for _, start in said] == sorted(start for _, start in said)
        assert said[-1][1] > total - (4 if most < 5 else 30)


def test_a_path_with_an_equals_sign_is_a_path(run, speech, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=1").mkdir()
    Path("lr=1/a.wav").write_bytes(encoded(speech, "WAV"))
    status, out, _ = asr(capfd, "transcribe", "lr=1/a.wav", f"run={run}", "device=cpu", "format=json")
    assert (status, json.loads(out)["file"]) == (0, "lr=1/a.wav")
    shutil.copytree(run, "lr=1/run")
    status, out, _ = asr(capfd, "compare", "lr=1/run", str(run))
    assert status == 0
    assert len(out.splitlines()) == 4
    assert "lr=2/run: unknown" in asr(capfd, "compare", "lr=2/run")[2].replace("lr=2/run", "lr=2/run")


@pytest.mark.parametrize("streaming", [False, True])
def test_files_at_fault_are_named_and_the_others_transcribed(run, speech, tmp_path, capfd, streaming):
    for name in ("first", "third"):
        (tmp_path / f"{name}.wav").write_bytes(encoded(speech, "WAV"))
    (tmp_path / "second.wav").write_bytes(b"RIFF but no more")
    soundfile.write(tmp_path / "fourth.wav", np.zeros(0), RATE)
    files = [tmp_path / f"{name}.wav" for name in ("first", "second", "third", "fourth", "fifth")]
    words = ["--streaming"] if streaming else [f"output={tmp_path / 'out'}"]
    status, out, err = asr(capfd, "transcribe", *files, f"run={run}", "device=cpu", *words)
    assert status == 1
    for fault in ("second.wav: not a readable audio file", "fourth.wav: holds no samples", "fifth.wav: no such file"):
        assert f"not transcribed: {tmp_path}/{fault}" in err
    assert err.splitlines()[-1] == "asr transcribe: 3 of 5 files could not be transcribed: see above"
    if streaming:
        assert [line for line in out.splitlines() if line.endswith(":")] == [f"{files[n]}:" for n in (0, 2, 3)]
    else:
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first.txt", "third.txt"]
    status, _, err = asr(capfd, "transcribe", *files[3:], f"run={run}", "device=cpu")
    assert (status, err.splitlines()[-1]) == (
        2,
        "asr transcribe: error: 2 of 2 files could not be transcribed: see above",
    )


class Stopped:
    """Lets `count` batches be decoded, then acts as Ctrl-C; counts all."""

    def __init__(self, monkeypatch, count: int) -> None:
        self.left, self.done, decode = count, 0, Decoder.decode

        def counted(decoder, batch):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.done += 1
            return decode(decoder, batch)

        monkeypatch.setattr(Decoder, "decode", counted)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_an_interrupted_transcription_goes_on(run, tiny_corpus, tmp_path, capfd, monkeypatch):
    files = sorted(tiny_corpus.directory.glob("dev-*.flac"))
    words = [*files, f"run={run}", "device=cpu", "format=json", "decode.max_seconds=2", "piece_seconds=1"]
    assert asr(capfd, "transcribe", *words, f"output={tmp_path / 'whole'}")[0] == 0
    with monkeypatch.context() as patch:
        first = Stopped(patch, 4)
        status, _, err = asr(capfd, "transcribe", *words, f"output={tmp_path / 'out'}")
    assert (status, first.done) == (130, 4)
    assert err.splitlines()[-1] == "asr transcribe: interrupted; run the same command again to go on"
    written = {path.name for path in (tmp_path / "out").glob("*.json")}
    assert 0 < len(written) < len(files)  # those that were done
    with monkeypatch.context() as patch:
        second = Stopped(patch, 1000)
        assert asr(capfd, "transcribe", *words, f"output={tmp_path / 'out'}")[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    left = [file for file in files if f"{file.stem}.json" not in written]
    with monkeypatch.context() as patch:
        rest = Stopped(patch, 1000)
        assert asr(capfd, "transcribe", *left, *words[len(files) :], f"output={tmp_path / 'rest'}")[0] == 0
    assert second.done == rest.done  # nothing of the files that were done


@pytest.mark.parametrize("change", ["", "decode=beam", "--streaming"])
def test_an_interrupted_decoding_goes_on_unless_it_is_another(run, tiny_corpus, tmp_path, capfd, monkeypatch, change):
    words = [f"run={run}", f"cuts={tiny_corpus.train}", "device=cpu", "decode.max_seconds=4"]
    changed = [*words, *([change] if change else [])]
    with monkeypatch.context() as patch:
        counted = Stopped(patch, 1000)
        assert asr(capfd, "decode", *changed, f"output={tmp_path / 'whole'}")[0] == 0
    with monkeypatch.context() as patch:
        Stopped(patch, 3)
        status, _, err = asr(capfd, "decode", *words, f"output={tmp_path / 'out'}")
    assert (status, "run the same command again to go on" in err) == (130, True)
    with (tmp_path / "out" / ".decode.journal").open("a") as file:
        file.write('{"id": "cut off')
    with monkeypatch.context() as patch:
        second = Stopped(patch, 1000)
        assert asr(capfd, "decode", *changed, f"output={tmp_path / 'out'}")[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert counted.done - second.done == (0 if change else 3)


@pytest.mark.parametrize("command", ["decode", "lm", "features", "align", "splice", "transcribe"])
def test_outputs_are_tried_before_the_work(run, tiny_corpus, tmp_path, capfd, monkeypatch, command):
    Stopped(monkeypatch, 0)  # what decodes is interrupted
    (tmp_path / "file").write_text("mine")
    into_directory = {"decode": "file", "transcribe": "file"}
    output = tmp_path / into_directory.get(command, "file/words")
    options = {
        "decode": [f"run={run}", f"cuts={tiny_corpus.dev}", "device=cpu"],
        "transcribe": [f"run={run}", tiny_corpus.directory / "dev-0.flac", "device=cpu"],
        "lm": [f"cuts=[{tiny_corpus.dev}]", f"tokenizer={tiny_corpus.tokenizer}"],
        "features": [f"cuts={tiny_corpus.dev}", f"storage={tmp_path / 'fbank'}"],
        "align": ["aligner=transducer", f"run={run}", f"cuts={tiny_corpus.dev}", "device=cpu"],
        "splice": [f"cuts={tiny_corpus.dev}", f"audio={tmp_path / 'audio'}"],
    }
    status, _, err = asr(capfd, command, *options[command], f"output={output}")
    assert (status, err) == (
        2,
        f"asr {command}: error: {tmp_path / 'file'}: is a file, where a directory is to be; name another\n",
    )
    assert (tmp_path / "file").read_text() == "mine"


def test_a_long_utterance_is_decoded_in_pieces_and_named(run, tiny_corpus, speech, tmp_path, capfd):
    soundfile.write(tmp_path / "long.wav", np.tile(speech, 3), RATE)
    seconds = 3 * len(speech) / RATE
    recording = Recording(
        "long", [AudioSource("file", [0], str(tmp_path / "long.wav"))], RATE, 3 * len(speech), seconds
    )
    cuts = [*CutSet.from_file(tiny_corpus.dev), make_cut(recording, "LOW MID", "s", "en")]
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    words = [f"run={run}", f"cuts={tmp_path / 'cuts.jsonl.gz'}", "device=cpu", "decode.max_seconds=6"]
    status, _, err = asr(capfd, "decode", *words, f"output={tmp_path / 'out'}")
    assert status == 0
    assert f"long: lasts {seconds:.1f} s, more than decode.max_seconds=6: decoded in pieces" in err
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "out" / "hypotheses.jsonl").read_text().splitlines())}
    assert set(rows) == {cut.id for cut in cuts}
    assert rows["long"]["times"] == sorted(rows["long"]["times"])
    assert rows["long"]["times"][-1] > seconds - 4
    assert len(rows["long"]["hypothesis"].split()) >= 10
    words_in_time = [line.split() for line in (tmp_path / "out" / "hypotheses.ctm").read_text().splitlines()]
    assert [word for name, _, _, _, word, *_ in words_in_time if name == "long"] == rows["long"]["hypothesis"].split()


@pytest.mark.parametrize("stored", [False, True])
def test_what_is_too_much_for_the_memory_is_named_and_the_rest_decoded(
    run, tiny_corpus, tmp_path, capfd, monkeypatch, stored
):
    cuts = tiny_corpus.dev
    if stored:
        cuts = tmp_path / "fbank.jsonl.gz"
        store = Store(tmp_path / "fbank")
        store.unfinished.mkdir()
        write_cuts(store_chunk(Task(list(CutSet.from_file(tiny_corpus.dev)), [1.0], store, BINS))[0], cuts)
        replace_directory(store.unfinished, store.place)
    decode = Decoder.decode

    def short(decoder, batch):
        if "dev-3" in batch.ids:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"
            )
        return decode(decoder, batch)

    monkeypatch.setattr(Decoder, "decode", short)
    words = [f"run={run}", f"cuts={cuts}", f"output={tmp_path / 'out'}", "device=cpu"]
    status, out, err = asr(capfd, "decode", *words)
    assert status == 1
    assert "skipped dev-3: lasts " in err
    assert "too long for the memory that there is" in err
    note = "1 of 6 utterances were skipped and are not scored"
    assert note in err
    assert (tmp_path / "out" / "wer.txt").read_text() == f"{out.splitlines()[-1]}\n{note}\n"


@pytest.mark.parametrize("letters", ["LOW MID HIGH TOQ", "ALL OTHER LETTERS"])
def test_a_run_with_another_tokenizer_is_refused(run, tiny_corpus, tmp_path, capfd, letters):
    from asr.data.tokenizer import train_tokenizer

    shutil.copytree(run, tmp_path / "run")
    train_tokenizer([letters], "char").save(tmp_path / "run" / "tokenizer")
    words = [f"run={tmp_path / 'run'}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'out'}", "device=cpu"]
    status, _, err = asr(capfd, "decode", *words)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert "step-00000200 was trained with another tokenizer than the run's" in err
    assert not (tmp_path / "out").exists()


def test_checkpoints_that_a_training_adds_in_the_meantime_are_not_told(run, monkeypatch):
    select = module.select
    chosen = []

    def once(*arguments):
        assert not chosen, "the checkpoints are listed a second time"
        chosen.append(select(*arguments))
        return chosen[0]

    monkeypatch.setattr(module, "select", once)
    _, found = load_task(str(run), "average", torch.device("cpu"))
    assert found.checkpoint == " + ".join(path.name for path in chosen[0])


def test_a_manifest_that_believed_the_header_is_named_by_every_command(run, tiny_corpus, speech, tmp_path, capfd):
    content = encoded(speech, "FLAC")
    for name, audio in (("cut_off", half(content)), ("joined", content * 2), ("holed", hole(content, 2000))):
        (tmp_path / f"{name}.flac").write_bytes(audio)
    seconds = len(speech) / RATE
    bad = [
        make_cut(recording(tmp_path / f"{name}.flac", len(speech)), "LOW", "s", "en")
        for name in ("cut_off", "joined", "holed")
    ]
    bad[-1] = replace(bad[-1], start=0.1, duration=seconds - 0.1)  # a piece of it
    manifest = tmp_path / "cuts.jsonl.gz"
    write_cuts([*CutSet.from_file(tiny_corpus.dev), *bad], manifest)
    faults = (
        f"cut_off.flac lasts {len(half(speech)) / RATE:.0f}",
        f"joined.flac lasts {2 * seconds:.2f} s, its manifest",
        "holed.flac cannot be read: the file is damaged",
    )
    words = [f"run={run}", f"cuts={manifest}", f"output={tmp_path / 'decode'}", "device=cpu"]
    status, out, err = asr(capfd, "decode", *words)
    assert status == 1
    assert (tmp_path / "decode" / "wer.txt").read_text().splitlines() == [
        out.splitlines()[-1],
        "3 of 9 utterances were skipped and are not scored",
    ]
    told = {"decode": err}
    told["features"] = str(store_chunk(Task(bad, [1.0], Store(tmp_path / "fbank"), BINS))[1])
    config = AlignConfig(aligner="transducer", run=str(run), cuts=str(manifest), output="words.ctm", device="cpu")
    told["align"] = str(MakeTrained(config, load_model(config).digest)()(bad))
    words = [f"run={tmp_path / 'run'}", "model=debug", "data=debug", "train=debug", "optim=debug", "train.device=cpu"]
    words += [f"data.train_cuts=[{manifest}]", f"data.valid_cuts=[{tiny_corpus.dev}]", "train.steps=5"]
    assert asr(capfd, "train", *words, f"data.tokenizer={tiny_corpus.tokenizer}")[0] == 0
    told["train"] = (tmp_path / "run" / "train.log").read_text()
    for command, text in told.items():
        assert all(fault in text for fault in faults), (command, text)


def test_errors_are_counted_in_characters_where_that_is_asked_for(run, tiny_corpus, tmp_path, capfd):
    words = [f"run={run}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'dev'}", "device=cpu", "unit=char"]
    _, out, _ = asr(capfd, "decode", *words)
    assert out.splitlines()[-1].startswith("%CER ")
    assert (tmp_path / "dev" / "wer.txt").read_text() == f"{out.splitlines()[-1]}\n"
    row = {"id": "u", "reference": "今天天气很好", "hypothesis": "今天天气真好"}
    (tmp_path / "h.jsonl").write_text(json.dumps(row))
    words = [f"hypotheses={tmp_path / 'h.jsonl'}", f"output={tmp_path / 'score'}", "name=x"]
    assert asr(capfd, "score", *words, "unit=word")[1] == "%WER 100.00 [ 1 / 1, 0 ins, 0 del, 1 sub ] x\n"
    for unit in ("unit=char", "unit=auto"):
        assert asr(capfd, "score", *words, unit)[1] == "%CER 16.67 [ 1 / 6, 0 ins, 0 del, 1 sub ] x\n"


def test_decodings_are_scored_by_parts_and_in_another_spelling(run, tiny_corpus, tmp_path, capfd):
    words = [f"run={run}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'dev'}", "device=cpu"]
    status, _, err = asr(capfd, "decode", *words, "by=dialect")
    assert (status, "by=dialect: no supervision has this; there are duration, " in err) == (2, True)
    assert not (tmp_path / "dev").exists() or not (tmp_path / "dev" / "wer.txt").exists()
    status, out, _ = asr(capfd, "decode", *words, "by=duration,recording_id", "normalize=basic")
    table = (tmp_path / "dev" / "parts.txt").read_text()
    assert status == 0
    assert out.endswith(f"{table}\n{(tmp_path / 'dev' / 'wer.txt').read_text().splitlines()[0]}\n")
    assert (tmp_path / "dev" / "wer.txt").read_text().splitlines()[1:] == ["normalised: basic"]
    rows = [line for line in table.splitlines() if line.startswith("| all ")]
    assert [row.split("|")[2].strip() for row in rows] == ["6", "6"]
    score = [f"hypotheses={tmp_path / 'dev' / 'hypotheses.jsonl'}", f"output={tmp_path / 'dev'}"]
    assert asr(capfd, "score", *score, "by=duration")[2].startswith(
        "asr score: error: by=duration: has no effect without cuts=…: "
    )
    assert asr(capfd, "score", *score, f"cuts={tiny_corpus.dev}", "by=recording_id")[0] == 0
    assert (tmp_path / "dev" / "parts.txt").read_text() == table.split("\n\n")[1]
    strangers = [f"cuts={tiny_corpus.train}", "by=duration"]
    assert "has none of these utterances; give their manifest" in asr(capfd, "score", *score, *strangers)[2]
    assert asr(capfd, "score", *score)[0] == 0
    assert not (tmp_path / "dev" / "parts.txt").exists()
