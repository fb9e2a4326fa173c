"""A corpus in a script without blanks, from training to subtitles: its characters are the words."""

import dataclasses
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from asr.cli.align import MakeTrained, load_model
from asr.cli.main import main
from asr.config import AlignConfig
from asr.data.corpus import write_cuts
from asr.data.ctm import write_ctm
from asr.data.tokenizer import train_tokenizer
from asr.data.words import aligned_words
from asr.decode import decoder as module
from asr.decode.search import Hypothesis
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.trained import validated_averages

STEPS = "train.steps=4", "train.validate_every=2", "train.save_every=2", "train.ctc_weight=0.2"
CHARACTERS = {"LOW": "低", "MID": "中", "HIGH": "高", "TOP": "顶"}


def asr(capfd, *words):
    """Exit status and what was printed."""
    capfd.readouterr()
    return main(list(map(str, words))), *capfd.readouterr()


def rewritten(cut):
    said = cut.supervisions[0]
    text = "".join(CHARACTERS[word] for word in said.text.split())
    return dataclasses.replace(cut, supervisions=[dataclasses.replace(said, text=text, language="Chinese")])


@pytest.fixture(scope="module")
def corpus(tiny_corpus, tmp_path_factory):
    """The tiny corpus in characters, with a tokenizer of these."""
    directory = tmp_path_factory.mktemp("characters")
    found = dataclasses.replace(
        tiny_corpus,
        directory=directory,
        train=directory / "cuts_train.jsonl.gz",
        dev=directory / "cuts_dev.jsonl.gz",
        tokenizer=directory / "char",
    )
    write_cuts(map(rewritten, CutSet.from_file(tiny_corpus.train)), found.train)
    write_cuts(map(rewritten, CutSet.from_file(tiny_corpus.dev)), found.dev)
    train_tokenizer(["".join(CHARACTERS.values())], "char").save(found.tokenizer)
    return found


def training(corpus, run, *more):
    words = [f"run={run}", "model=debug", "data=debug", "train=debug", "optim=debug", "loss.topology=modified"]
    words += [f"data.train_cuts=[{corpus.train}]", f"data.valid_cuts=[{corpus.dev}]", "train.device=cpu"]
    return ["train", *words, f"data.tokenizer={corpus.tokenizer}", "model.causal=true", "model.chunk_frames=[8]", *more]


@pytest.fixture(scope="module")
def run(corpus):
    """A run of a few steps."""
    assert main(training(corpus, corpus.directory / "run", *STEPS)) == 0
    return corpus.directory / "run"


def test_a_training_counts_characters_without_being_asked(run, capfd):
    lines = [line for line in map(json.loads, (run / "metrics.jsonl").open()) if "validation/utterances" in line]
    assert [line["step"] for line in lines] == [2, 4]
    assert all("validation/cer" in line and "validation/wer" not in line for line in lines)
    spoken = sum(len(cut.supervisions[0].text) for cut in CutSet.from_file(run.parent / "cuts_dev.jsonl.gz"))
    assert [line["validation/characters"] for line in lines] == [spoken] * 2
    log = (run / "train.log").read_text()
    assert f"CER {lines[0]['validation/cer']:.2f} % ({lines[0]['validation/errors']:.0f} of {spoken} characters)" in log
    assert "WER" not in log
    best = min(lines, key=lambda line: (line["validation/cer"], line["validation/loss"]))
    assert state.best(run / "checkpoints").name == f"step-{best['step']:08d}"
    assert "cer" in validated_averages(RunDirectory(run))["average"]
    _, out, err = asr(capfd, "compare", run)
    head, _, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines())
    assert dict(zip(head, row))["best validation CER"] == f"{best['validation/cer']:.2f}"
    assert err == ""


def test_a_run_may_go_on_with_another_unit(run, corpus, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    assert main(training(corpus, tmp_path / "run", *STEPS, "unit=word")) == 0
    assert "unit: word" in (tmp_path / "run" / "config.yaml").read_text()


def test_decoding_counts_characters(run, corpus, tmp_path, capfd):
    words = [f"run={run}", f"cuts={corpus.dev}", f"output={tmp_path}", "device=cpu"]
    _, out, _ = asr(capfd, "decode", *words)
    assert out.splitlines()[-1].startswith("%CER ")
    assert (tmp_path / "wer.txt").read_text() == f"{out.splitlines()[-1]}\n"
    assert asr(capfd, "decode", *words, "unit=word")[1].splitlines()[-1].startswith("%WER ")


@pytest.fixture(scope="module", params=["ctc", "transducer"])
def aligned(run, corpus, request):
    """The validation cuts with the times that the run gives to their characters."""
    directory = corpus.directory / request.param
    config = AlignConfig(request.param, str(corpus.dev), str(directory / "words.ctm"), str(run), device="cpu")
    results = MakeTrained(config, load_model(config).digest)()(list(CutSet.from_file(corpus.dev)))
    write_ctm(Path(config.output), results)
    output = directory / "cuts_dev.jsonl.gz"
    assert main(["attach", f"words={directory / 'words.ctm'}", f"cuts={corpus.dev}", f"output={output}"]) == 0
    return output


def test_characters_are_aligned_and_attached(aligned, corpus):
    symbols = [line.split()[4] for line in (aligned.parent / "words.ctm").read_text().splitlines()]
    assert "".join(symbols) == "".join(cut.supervisions[0].text for cut in CutSet.from_file(corpus.dev))
    assert set(map(len, symbols)) == {1}
    for cut in CutSet.from_file(aligned):
        words = aligned_words(cut)
        assert "".join(item.symbol for item in words) == cut.supervisions[0].text
        assert all(before.end <= after.start + 1e-6 for before, after in pairwise(words))
    assert (aligned.parent / "cuts_dev.jsonl.gz.coverage.txt").read_text() == "6 of 6 utterances aligned (100.0 %)\n"


def test_delays_are_of_characters(aligned, tmp_path, capfd):
    rows = []
    for cut in CutSet.from_file(aligned):
        items, text = aligned_words(cut), cut.supervisions[0].text
        heard = "低" + text[1:] if text[0] != "低" else "中" + text[1:]  # the first is wrong
        times = [round(item.end + 0.1, 4) for item in items]
        rows.append({"id": cut.id, "reference": text, "hypothesis": heard, "tokens": list(heard), "times": times})
    (tmp_path / "hypotheses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"hypotheses={tmp_path / 'hypotheses.jsonl'}", f"output={tmp_path / 'out'}", f"cuts={aligned}"]
    delay, rate = asr(capfd, "score", *words)[1].splitlines()
    right = sum(len(row["tokens"]) - 1 for row in rows)
    assert delay == (
        f"delay: mean 0.100, median 0.100, 90 % 0.100, last token 0.100 s [ {right} tokens, {len(rows)} utterances ]"
    )
    assert rate.startswith(f"%CER {100 * 6 / (right + 6):.2f} [ 6 / {right + 6}, 0 ins, 0 del, 6 sub ]")


def test_spliced_utterances_are_of_characters_and_have_no_blanks(aligned, tmp_path):
    output = tmp_path / "cuts.jsonl.gz"
    words = [f"cuts={aligned}", f"output={output}", f"audio={tmp_path / 'audio'}", "count=5", "shortest=3"]
    assert main(["splice", *words, "longest=3"]) == 0
    for cut in CutSet.from_file(output):
        text = cut.supervisions[0].text
        assert (len(text), set(text) <= set(CHARACTERS.values())) == (3, True)
        assert [item.symbol for item in aligned_words(cut)] == list(text)


CHUNK = 8  # frames of 0.04 s that the run works in
EVERY = 10  # frames in which the search below says a character


@pytest.fixture
def scripted(monkeypatch):
    """Searches that say one character after the other, one every 0.4 s."""

    class Search:
        def begin(self, batch):
            return Session(batch)

    class Session:
        def __init__(self, batch):
            self.frames = torch.zeros(batch, dtype=torch.long)

        def read(self, encoder_out, frames):
            self.frames += frames

        def joined(self):
            return int(self.frames.sum())

        def best(self):
            emitted = [list(range(EVERY - 1, int(frames), EVERY)) for frames in self.frames]
            return [
                [Hypothesis([3 + n % 4 for n in range(len(times))], times, 0.0, [1.0] * len(times))]
                for times in emitted
            ]

    monkeypatch.setattr(module, "make_search", lambda *_: Search())


@pytest.fixture(scope="module")
def talk(corpus):
    """A recording of half a minute."""
    first = next(iter(CutSet.from_file(corpus.train)))
    path = corpus.directory / "talk.flac"
    soundfile.write(path, np.resize(first.load_audio()[0], 30 * 16000), 16000)
    return path


def test_subtitles_are_short_though_nobody_writes_a_blank(run, talk, scripted, capfd):
    _, out, _ = asr(capfd, "transcribe", talk, f"run={run}", "device=cpu", "format=srt", "piece_seconds=30")
    cues = [cue.splitlines() for cue in out.strip().split("\n\n")]
    spans = [[seconds(time) for time in span.split(" --> ")] for _, span, *_ in cues]
    assert max(end - start for start, end in spans) <= 6.0
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    lines = ["".join(text) for _, _, *text in cues]
    assert 70 <= sum(map(len, lines)) <= 75
    assert set("".join(lines)) <= set(CHARACTERS.values())


def test_a_stream_says_each_character_at_once(run, talk, scripted, capfd):
    _, out, err = asr(capfd, "transcribe", talk, f"run={run}", "device=cpu", "--streaming")
    assert 70 <= len(out.strip()) <= 75
    said = re.search(r"first word after (\d+\.\d+) s of audio", err)
    heard = (2 * CHUNK * 4 + 3.5) * 0.01  # the second chunk has the frame that says it
    assert heard - 0.04 <= float(said[1]) <= heard + 0.04 * CHUNK


def seconds(time):
    hours, minutes, rest = time.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)
