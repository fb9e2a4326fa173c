"""Long recordings into utterances: every word once, in pauses alone, and none too long."""

from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem
from lhotse.testing.dummies import dummy_recording
from small_model import small_options

from asr.align import trained
from asr.align.segment import EDGE_SECONDS, segment
from asr.align.trained import TrainedAligner
from asr.cli.main import main
from asr.data.batch import Skipped
from asr.data.corpus import describe_recording, make_cut, write_cuts
from asr.data.dataset import SpeechDataset
from asr.data.manifest import open_cuts
from asr.data.tokenizer import load_tokenizer
from asr.data.words import aligned_words
from asr.losses import make
from asr.losses.objective import Objective
from asr.models.transducer import Transducer
from asr.train.task import Task

SECONDS = 600.0


def long_cut(seed=0, pause=0.1, start=0.0):
    """Ten minutes of words of 0.2 to 0.6 s, most pauses between which are of `pause` seconds."""
    rng = np.random.default_rng(seed)
    items, time = [], 1.0
    while time < SECONDS - 2:
        duration = round(rng.uniform(0.2, 0.6), 3)
        items.append(AlignmentItem(f"w{len(items)}", round(time, 3), duration))
        time += duration + (round(rng.uniform(0.3, 2.0), 3) if rng.random() < 0.15 else pause)
    text = " ".join(item.symbol for item in items)
    said = SupervisionSegment("s", "r", 0.0, SECONDS, text=text, speaker="ann", alignment={"word": items})
    recording = dummy_recording(0, SECONDS + start)
    recording.sources[0].type, recording.sources[0].source = "file", "long.wav"  # Lhotse's would be run
    return MonoCut("long", start, SECONDS, 0, [said], recording=recording)


@pytest.mark.parametrize("max_seconds", [5.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_word_is_in_one_utterance_which_begins_and_ends_in_pauses(max_seconds, seed):
    cut = long_cut(seed, start=3.0)
    before = cut.supervisions[0].alignment["word"]
    found = list(segment(cut, max_seconds, 0.3))
    parts = [one for one in found if not isinstance(one, Skipped)]
    words = [item.with_offset(part.start - cut.start) for part in parts for item in aligned_words(part)]
    if max_seconds == 20.0:  # there is a pause every few seconds
        assert len(parts) == len(found) < SECONDS / 8
        assert [item.symbol for item in words] == [item.symbol for item in before]
    places = {item.symbol: item for item in before}
    assert all(item.start == pytest.approx(places[item.symbol].start, abs=2e-3) for item in words)
    assert all(one.end <= other.start + 1e-6 for one, other in pairwise(parts))
    assert len({part.id for part in parts}) == len(parts)
    for part in parts:
        (said,) = part.supervisions
        items = aligned_words(part)
        assert (said.text.split(), said.speaker) == ([item.symbol for item in items], "ann")
        assert said.duration == part.duration <= max_seconds
        assert 0 < items[0].start <= EDGE_SECONDS + 1e-3
        assert 0 < part.duration - items[-1].end <= EDGE_SECONDS + 1e-3
        for item, neighbour in ((items[0], -1), (items[-1], 1)):
            place = int(item.symbol[1:]) + neighbour
            if 0 <= place < len(before):
                first, last = sorted((before[place], places[item.symbol]), key=lambda item: item.start)
                assert last.start - first.end >= 0.3 - 1e-6


def test_a_stretch_without_pauses_is_named_and_left_out():
    cut = long_cut(pause=0.1)
    words = cut.supervisions[0].alignment["word"]
    cut.supervisions[0].alignment["word"] = [
        item._replace(start=0.2 * n, duration=0.2) if n < 200 else item._replace(start=item.start + 60)
        for n, item in enumerate(words[:400])
    ]
    cut.supervisions[0].text = " ".join(item.symbol for item in words[:400])
    found = list(segment(cut, 20.0, 0.3))
    named = [one for one in found if isinstance(one, Skipped)]
    assert [one.reason for one in named] == ["40.2 s without a pause of 0.3 s"]
    assert named[0].id == "s, 0.0 to 40.2 s"
    assert sum(len(aligned_words(one)) for one in found if not isinstance(one, Skipped)) == 200


@pytest.mark.parametrize("change", [{"alignment": None}, {"text": "other words"}])
def test_without_times_of_its_words_there_is_nothing_to_cut(change):
    cut = long_cut()
    for name, value in change.items():
        setattr(cut.supervisions[0], name, value)
    (found,) = segment(cut, 20.0, 0.3)
    assert found == Skipped("s", "no times of its words, or of others: see `asr align` and `asr attach`")


def test_a_manifest_of_utterances_is_written_and_what_makes_none_is_named(tmp_path, capsys):
    other = long_cut()
    other.id, other.supervisions[0].id, other.supervisions[0].alignment = "without", "without", None
    write_cuts([long_cut(), other], tmp_path / "long.jsonl.gz")
    output = tmp_path / "cuts.jsonl.gz"
    assert main(["segment", f"cuts={tmp_path / 'long.jsonl.gz'}", f"output={output}", "max_seconds=10"]) == 0
    said = capsys.readouterr()
    cuts = list(open_cuts([str(output)]))
    assert len(cuts) > 60
    assert all(cut.duration <= 10 for cut in cuts)
    assert f"{output}: {len(cuts)} utterances, " in said.out
    assert "not used: without: no times of its words" in said.err
    for words, message in (
        ([f"cuts={output}", f"output={output}"], "is the manifest that is read"),
        ([f"cuts={tmp_path / 'none.jsonl.gz'}", f"output={output}"], "no utterance can be cut out of it"),
    ):
        write_cuts([other], tmp_path / "none.jsonl.gz")
        assert main(["segment", *words]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("factor", [4, 8])
def test_what_is_long_is_aligned_in_pieces_as_it_would_be_whole(factor, tiny_corpus, tmp_path, monkeypatch):
    """By an encoder that sees no frame but its own, so that a piece's output is that of the whole."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tiny_corpus.tokenizer)
    sizes = {"mel_bins": 20, "kernel_size": 1, "left_context": 0, "right_context": 0, "subsampling": factor}
    model = Transducer(small_options(normalize="none", **sizes), tokenizer.vocab_size)
    loss = make("full", vocab_size=tokenizer.vocab_size, encoder_dim=8, predictor_dim=8)
    task = Task(model, Objective(loss, 8, tokenizer.vocab_size, 0.2)).eval()
    aligner = TrainedAligner(task, SpeechDataset(20, model.timing, tokenizer), "ctc")
    parts = [cut.load_audio()[0] for cut in CutSet.from_file(tiny_corpus.dev)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), 16000)
    cut = make_cut(describe_recording("long", tmp_path / "long.wav"), "LOW HIGH MID TOP LOW", "a", "en")
    (whole,) = aligner([cut])
    monkeypatch.setattr(trained, "LONGEST_SECONDS", 3.0)
    monkeypatch.setattr(trained, "PIECE_SECONDS", 2.0)
    encoded, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda features, lengths: encoded.append(1) or encode(features, lengths))
    (pieces,) = aligner([cut])
    assert len(encoded) >= cut.duration / 2
    assert pieces == whole
    monkeypatch.setattr(trained, "MOST_STATES", 1000)
    (refused,) = aligner([cut])
    assert refused.reason == f"21 labels in {cut.duration:.0f} s are too many to be aligned at once: divide it"


def test_a_recording_in_a_script_without_blanks_is_divided_between_characters():
    items = [AlignmentItem("今天", 0.5, 0.8), AlignmentItem("好", 1.4, 0.4), AlignmentItem("天气", 3.0, 0.8)]
    said = SupervisionSegment("s", "r", 0.0, 4.0, text="今天好天气", alignment={"word": items})
    first, second = segment(MonoCut("long", 0.0, 4.0, 0, [said], recording=dummy_recording(0, 4.0)), 2.0, 0.3)
    assert [one.supervisions[0].text for one in (first, second)] == ["今天好", "天气"]
    assert [item.symbol for item in aligned_words(second)] == ["天", "气"]
