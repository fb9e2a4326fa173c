"""Forced alignment: against HMM references, brute force, and through interruptions."""

import itertools
import json
import math
from types import SimpleNamespace

import pytest
import torch
from lattice_paths import paths
from lhotse import CutSet
from lhotse.supervision import AlignmentItem

from asr.align.hmm import HmmAligner
from asr.align.make import Aligned, align_all, words_journal
from asr.align.read import read_words
from asr.align.trained import TrainedAligner, runs
from asr.arcs.standard import standard_arcs
from asr.data.batch import Skipped
from asr.data.dataset import SpeechDataset
from asr.data.tokenizer import load_tokenizer
from asr.decode.words import word_times
from asr.device import enough_memory
from asr.errors import InputError
from asr.models.subsampling import frame_timing
from asr.nodes.base import all_nodes
from asr.ops.lattice.paths import best_alignment

TIMING = frame_timing(4)


def small_an4(shared_data, tmp_path, load_prepare):
    """Cuts of the first utterances of the test part."""
    prepare = load_prepare("an4")
    part = prepare.read_part(shared_data / "an4", "test")
    some = dict(itertools.islice(part.items(), 12))
    return [prepare._cut(shared_data / "an4", file_id, text, tmp_path) for file_id, text in some.items()]


def test_the_hmm_aligner_agrees_with_a_reference(shared_data, tmp_path, load_prepare):
    cuts = small_an4(shared_data, tmp_path, load_prepare)
    reference = read_words(shared_data / "alignments" / "an4.ctm").by_id
    assert sum(cut.id in reference for cut in cuts) >= 8
    errors = []
    for result in HmmAligner()(cuts):
        assert isinstance(result, Aligned)
        for found, expected in zip(result.words, reference.get(result.id, result.words), strict=True):
            assert found.symbol == expected.symbol
            errors += [abs(found.start - expected.start), abs(found.end - expected.end)]
    assert sum(error <= 0.0501 for error in errors) / len(errors) >= 0.95


def test_the_hmm_aligner_does_not_depend_on_the_order(shared_data, tmp_path, load_prepare):
    cuts = small_an4(shared_data, tmp_path, load_prepare)[:5]
    aligner = HmmAligner()
    forwards, backwards = aligner(cuts), aligner(cuts[::-1])
    assert forwards == backwards[::-1]
    assert forwards == [HmmAligner()([cut])[0] for cut in cuts]


def test_an_unknown_word_and_another_text_are_reasons_not_to_align(shared_data, tmp_path, load_prepare):
    (cut, *_) = small_an4(shared_data, tmp_path, load_prepare)
    cut.supervisions[0].text = "GO XYZZYX"
    (result,) = HmmAligner()([cut])
    assert result == Skipped(cut.id, "not in the dictionary: XYZZYX")
    cut.supervisions[0].text = " ".join(["CONSTITUTIONAL"] * 40)
    (result,) = HmmAligner()([cut])
    assert result == Skipped(cut.id, "no path through the transcript: is this what was said?")
    cut.supervisions[0].duration = 99.0
    (result,) = HmmAligner()([cut])
    assert result.reason.startswith(
        f"its supervision {cut.supervisions[0].id} lasts from 0.00 to 99.00 s, the cut from"
    )


def test_a_missing_hmm_aligner_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pocketsphinx", None)
    with pytest.raises(InputError, match=r"pip install '.\[align\]'"):
        HmmAligner()


@pytest.mark.parametrize("topology", ["regular", "modified", "constrained"])
def test_the_best_alignment_is_that_of_the_likeliest_path(topology):
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        frames, labels = 5, int(torch.randint(0, 5, (), generator=generator))
        nodes = all_nodes(torch.tensor([frames]), torch.tensor([labels]))
        blank, label = torch.randn(2, len(nodes), generator=generator).log_softmax(0)
        grid = {"blank": blank.view(frames, labels + 1), "label": label.view(frames, labels + 1)}

        def score(path, grid=grid):
            return math.fsum(float(grid[kind][t, u]) for kind, t, u in path)

        best = max(paths(frames, labels, topology), key=score)
        expected = [t for kind, t, u in best if kind == "label"]
        assert best_alignment(nodes, torch.stack((blank, label)), standard_arcs(topology))[0].tolist() == expected


def test_the_best_alignment_of_a_batch_with_padding():
    nodes = all_nodes(torch.tensor([2, 3]), torch.tensor([0, 2]))
    blank = torch.zeros(len(nodes))
    label = torch.tensor([0.0, 0.0, -1.0, -3.0, 0.0, -3.0, -3.0, 0.0, -3.0, -1.0, 0.0])
    assert best_alignment(nodes, torch.stack((blank, label)), standard_arcs()).tolist() == [[0, 0], [0, 2]]


def test_runs_of_a_ctc_path():
    assert runs(torch.tensor([0, 3, 3, 0, 3, 2, 2, 0])) == [(1, 2), (4, 4), (5, 6)]
    assert runs(torch.tensor([0, 0])) == []


def test_words_fill_the_room_around_their_letters_but_not_pauses():
    pieces = ["\u2581", "A", "B", "\u2581C", "\u2581", "D"]
    frames = [(0, 0), (10, 10), (12, 13), (16, 16), (50, 50), (60, 60)]
    spans = [(TIMING.middle(first), TIMING.middle(last)) for first, last in frames]
    words = word_times(["AB", "C", "D"], pieces, spans, 3.0)
    begin = [TIMING.middle(frame) - 0.1 for frame in (10, 16, 60)]
    assert [item.symbol for item in words] == ["AB", "C", "D"]
    assert [item.start for item in words] == pytest.approx([begin[0], max(begin[1], TIMING.middle(13)), begin[2]])
    assert words[0].end == pytest.approx(words[1].start)
    assert words[1].end == pytest.approx(TIMING.middle(16) + 0.2)
    assert words[2].end == pytest.approx(3.0)


class CountingAligner:
    """Writes a line for every cut that it is given, and fails at the one called `fatal`."""

    def __init__(self, log, fatal):
        self.log, self.fatal = log, fatal

    def __call__(self, cuts):
        for cut in cuts:
            if cut.id == self.fatal:
                raise RuntimeError("killed")
            with open(self.log, "a") as file:
                file.write(f"{cut.id}\n")
        return [Aligned(cut.id, [AlignmentItem("A", 0.0, 1.0, 0.5)]) for cut in cuts]


class MakeCounting:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __call__(self):
        return CountingAligner(*self.arguments)


def test_an_interrupted_alignment_goes_on_where_it_was(tmp_path, tiny_corpus, monkeypatch):
    monkeypatch.setattr("asr.align.make.CHUNK", 4)
    cuts, log, journal = list(CutSet.from_file(tiny_corpus.train)), tmp_path / "log", tmp_path / "journal"
    with pytest.raises(RuntimeError, match="killed"):
        align_all(MakeCounting(log, cuts[9].id), cuts, len(cuts), words_journal(journal, {"aligner": "x"}), 1)
    before = log.read_text().splitlines()
    with journal.open("a") as file:
        file.write('{"id": "cut off')  # as a power cut would leave it
    again = words_journal(journal, {"aligner": "x"})
    align_all(MakeCounting(log, "none"), cuts, len(cuts), again, 1)
    assert log.read_text().splitlines()[len(before) :] == [cut.id for cut in cuts[8:]]
    assert list(again.done) == [cut.id for cut in cuts]
    assert again.done[cuts[0].id] == Aligned(cuts[0].id, [AlignmentItem("A", 0.0, 1.0, 0.5)])
    assert len([json.loads(line) for line in journal.read_text().splitlines()]) == 1 + len(cuts)


def test_a_journal_of_other_settings_does_not_count(tmp_path):
    first = words_journal(tmp_path / "journal", {"aligner": "x"})
    first.open()
    found = Aligned("a", [AlignmentItem("A", 0.0, 1.0)])
    first.add({"a": found, "b": Skipped("b", "reason")})
    same, other = words_journal(first.path, {"aligner": "x"}), words_journal(first.path, {"aligner": "y"})
    same.open()
    assert same.done == {"a": found}  # what failed is tried again
    other.open()
    assert other.done == {}


def test_what_is_too_long_for_a_model_is_named_and_the_others_aligned(tiny_corpus, monkeypatch):
    cuts = list(CutSet.from_file(tiny_corpus.dev))
    task = SimpleNamespace(objective=SimpleNamespace(ctc=None), parameters=lambda: iter([torch.zeros(1)]))
    tokenizer = load_tokenizer(tiny_corpus.tokenizer)
    aligner = TrainedAligner(task, SpeechDataset(8, TIMING, tokenizer), "transducer")
    long = max(cut.duration for cut in cuts)

    def by_lattice(batch):
        if batch.ids == [cuts[1].id]:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
        return [(n, n) for n in range(int(batch.label_lengths[0]))]

    monkeypatch.setattr(aligner, "frames_of_labels", by_lattice)
    monkeypatch.setattr("asr.align.trained.LONGEST_SECONDS", long - 0.01)
    results = aligner(cuts)
    reasons = {one.id: one.reason for one in results if isinstance(one, Skipped)}
    longest = next(cut for cut in cuts if cut.duration == long)
    assert reasons == {
        longest.id: f"lasts {long:.1f} s, more than {long - 0.01:g} s: cut it where it is quiet",
        cuts[1].id: f"lasts {cuts[1].duration:.1f} s, too long for the memory that there is",
    }
    assert len(results) == len(cuts)


def test_other_errors_of_a_model_are_not_taken_for_too_little_memory():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("a: ", 1.0):
        raise RuntimeError("shapes do not agree")
    with pytest.raises(InputError, match=r"a: lasts 2.0 s, too long"), enough_memory("a: ", 2.0):
        raise torch.OutOfMemoryError("CUDA out of memory")
