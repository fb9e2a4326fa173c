"""Times onto cuts: attached where they agree with the transcript, and otherwise refused by name."""

import pytest
from lhotse import Recording
from lhotse.audio import AudioSource
from lhotse.cut import MonoCut
from lhotse.supervision import AlignmentItem, SupervisionSegment

from asr.align.attach import Attachment
from asr.align.read import WordTimes
from asr.data.words import aligned_words

GOOD = [("one", 0.2, 0.3), ("TWO(2)", 0.5, 0.4)]


def cut_of(cut_id="utt", text="ONE TWO", start=0.0, duration=2.0, **changes):
    recording = Recording("rec", [AudioSource("file", [0], "x.wav")], 16000, 160000, 10.0)
    supervision = SupervisionSegment(f"{cut_id}-s", "rec", 0.0, duration, text=text, **changes)
    return MonoCut(cut_id, start, duration, 0, [supervision], recording=recording)


def attach(cuts, **words):
    attachment = Attachment(WordTimes({name: [AlignmentItem(*word) for word in rows] for name, rows in words.items()}))
    return list(attachment(cuts)), attachment.coverage


def triples(cut):
    return [(item.symbol, round(item.start, 6), round(item.duration, 6)) for item in aligned_words(cut)]


def test_words_are_spelt_as_in_the_transcript():
    (cut,), coverage = attach([cut_of()], utt=GOOD)
    assert triples(cut) == [("ONE", 0.2, 0.3), ("TWO", 0.5, 0.4)]
    assert coverage.line() == "1 of 1 utterances aligned (100.0 %)"


@pytest.mark.parametrize(("name", "offset"), [("utt", 0.0), ("utt-s", 0.0), ("rec", 3.0)])
def test_an_utterance_is_found_by_cut_supervision_or_recording(name, offset):
    words = [(symbol, start + offset, duration) for symbol, start, duration in GOOD]
    (cut,), coverage = attach([cut_of(start=3.0)], **{name: words})
    assert triples(cut) == [("ONE", 0.2, 0.3), ("TWO", 0.5, 0.4)]
    assert coverage.unused == []


@pytest.mark.parametrize(
    ("name", "files", "found"),
    [
        ("ann/001", ["ann/001", "bob/001"], "ann/001"),  # as `asr manifest` calls the files of a folder
        ("84-1-0000", ["84/1/84-1-0000", "84/1/84-1-0001"], "84/1/84-1-0000"),
        ("1/84-1-0000", ["84/1/84-1-0000"], "84/1/84-1-0000"),
        ("my_talk", ["ann/my talk"], "ann/my talk"),
        ("001", ["ann/001", "bob/001"], None),
        ("001", ["001", "bob/001"], "001"),
    ],
)
def test_times_of_a_file_are_found_by_its_folders_as_far_as_they_are_needed(name, files, found):
    (cut,), coverage = attach([cut_of(name)], **dict.fromkeys(files, GOOD))
    assert bool(triples(cut)) == (found is not None)
    assert coverage.unused == [file for file in files if file != found]


def test_a_recording_s_words_go_to_its_cuts():
    cuts = [cut_of("a", "ONE TWO", 0.0, 1.0), cut_of("b", "THREE", 1.0, 1.0)]
    (first, second), coverage = attach(cuts, rec=[*GOOD, ("three", 1.25, 0.5)])
    assert triples(first) == [("ONE", 0.2, 0.3), ("TWO", 0.5, 0.4)]
    assert triples(second) == [("THREE", 0.25, 0.5)]
    assert coverage.aligned == 2


@pytest.mark.parametrize(
    "words", [[("今", 0.2, 0.2), ("天", 0.4, 0.2), ("好", 0.8, 0.4)], [("今天", 0.2, 0.4), ("好", 0.8, 0.4)]]
)
def test_characters_or_words_of_a_script_without_blanks_become_characters(words):
    (cut,), coverage = attach([cut_of(text="今天好")], utt=[("<sil>", 0.0, 0.2), *words])
    assert triples(cut) == [("今", 0.2, 0.2), ("天", 0.4, 0.2), ("好", 0.8, 0.4)]
    (cut,), coverage = attach([cut_of(text="今天坏")], utt=words)
    assert coverage.refused["utt"] == ("other words", "word 3 is '坏' in the transcript, '好' in the times")


def test_words_outside_a_recording_that_is_a_single_cut_are_named():
    (cut,), coverage = attach([cut_of(text="ONE TWO THREE", duration=10.0)], rec=[*GOOD, ("three", 99.0, 0.5)])
    assert triples(cut) == []
    assert coverage.refused["utt"][0] == "outside"


def test_words_are_shared_out_to_supervisions():
    second = SupervisionSegment("late", "rec", 1.0, 1.0, text="TWO")
    first = SupervisionSegment("early", "rec", 0.0, 1.0, text="ONE")
    cut = MonoCut("utt", 0.0, 2.0, 0, [second, first])
    (aligned,), _ = attach([cut], utt=[("one", 0.2, 0.3), ("two", 1.2, 0.3)])
    assert [[item.symbol for item in s.alignment["word"]] for s in aligned.supervisions] == [["TWO"], ["ONE"]]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (None, "missing: no times"),
        ([], "other words: word 1 is 'ONE' in the transcript, nothing in the times"),
        (GOOD[:1], "other words: word 2 is 'TWO' in the transcript, nothing in the times"),
        ([*GOOD, ("three", 1, 0.1)], "other words: word 3 is nothing in the transcript, 'three' in the times"),
        ([GOOD[0], ("<unk>", 0.5, 0.4)], "other words: word 2 is 'TWO' in the transcript, '<unk>' in the times"),
        ([*GOOD, *GOOD], "other words: word 3 is nothing in the transcript, 'one' in the times"),
        ([GOOD[0], ("two", 0.9, -0.4)], "reversed: 'two' ends at 0.5 s, before it begins at 0.9 s"),
        ([("one", 0.2, 0.5), GOOD[1]], "crossing: 'TWO(2)' begins at 0.5 s, 'one' ends at 0.7 s"),
        ([("one", 1.0, 0.3), ("two", 0.2, 0.3)], "crossing: 'two' begins at 0.2 s, 'one' ends at 1.3 s"),
        ([GOOD[0], ("two", 0.5, 2.0)], "outside: 'two' is at 0.5 to 2.5 s of 2 s"),
        ([("one", -0.2, 0.3), GOOD[1]], "outside: 'one' is at -0.2 to 0.1 s of 2 s"),
    ],
)
def test_every_fault_is_named_and_leaves_the_cut_without_times(words, fault):
    stale = {"word": [AlignmentItem("OLD", 0.0, 1.0)], "phone": [AlignmentItem("W", 0.2, 0.1)]}
    cuts = [cut_of(alignment=stale), cut_of("good")]
    (cut, good), coverage = attach(cuts, good=GOOD, **({} if words is None else {"utt": words}))
    assert triples(cut) == []
    assert list(cut.supervisions[0].alignment) == ["phone"]
    assert len(triples(good)) == 2
    assert list(coverage.details()) == [f"utt: {fault}"]
    assert coverage.line() == f"1 of 2 utterances aligned (50.0 %), 1 {fault.partition(':')[0]}"


def test_rounding_is_no_fault():
    _, coverage = attach([cut_of()], utt=[("one", -0.01, 0.55), ("two", 0.5, 1.53)])
    assert coverage.aligned == 1


@pytest.mark.parametrize("words", [{}, {"utt": []}, {"utt": [("<eps>", 0.0, 2.0)]}])
def test_an_empty_transcript_has_all_its_times(words):
    _, coverage = attach([cut_of(text="")], **words)
    assert coverage.aligned == 1


def test_silences_are_left_out_but_not_words_that_look_like_them():
    words = [
        ("<eps>", 0, 0.1),
        ("sp", 0.1, 0.1),
        ("S", 0.2, 0.2),
        ("SP", 0.4, 0.2),
        ("sil", 0.6, 0.1),
        ("sp", 0.7, 0.1),
    ]
    (cut,), coverage = attach([cut_of(text="S SP SIL")], utt=words)
    assert coverage.aligned == 1
    assert [(item.symbol, item.start) for item in aligned_words(cut)] == [("S", 0.2), ("SP", 0.4), ("SIL", 0.6)]


def test_spellings_of_one_word_in_two_forms_of_unicode():
    _, coverage = attach([cut_of(text="CAF\u00c9")], utt=[("cafe\u0301", 0.2, 0.5)])
    assert coverage.aligned == 1


def test_a_mixed_cut_is_named_and_left_as_it_is():
    mixed = cut_of("a").append(cut_of("b"))
    (same,), coverage = attach([mixed])
    assert same is mixed
    assert list(coverage.details()) == [f"{mixed.id}: mixed: a MixedCut; attach times before cuts are mixed or joined"]


def test_supervisions_of_one_id_keep_their_texts():
    supervisions = [SupervisionSegment("same", "rec", at, 1.0, text=text) for at, text in ((0.0, "ONE"), (1.0, "TWO"))]
    (cut,), _ = attach([MonoCut("utt", 0.0, 2.0, 0, supervisions)], utt=[("one", 0.2, 0.3), ("two", 1.2, 0.3)])
    assert [(s.text, [item.symbol for item in s.alignment["word"]]) for s in cut.supervisions] == [
        ("ONE", ["ONE"]),
        ("TWO", ["TWO"]),
    ]


def test_times_of_no_cut_and_unreadable_lines_are_reported(tmp_path):
    attachment = Attachment(WordTimes({"utt": [AlignmentItem(*w) for w in GOOD], "other": []}, ["a.ctm:3: not UTF-8"]))
    assert len(list(attachment([cut_of()]))) == 1
    attachment.coverage.write(tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text().splitlines() == [
        "1 of 1 utterances aligned (100.0 %), 1 unreadable lines, 1 that belong to no cut",
        "unreadable: a.ctm:3: not UTF-8",
        "other: belongs to no cut",
    ]
