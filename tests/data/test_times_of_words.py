"""From word times to label frames."""

import random
from itertools import pairwise

import pytest
import torch
from lhotse import MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem
from lhotse.testing.dummies import dummy_recording

from asr.data.batch import Position
from asr.data.dataset import Draw, SpeechDataset, transcript
from asr.data.scripts import units_of_text
from asr.data.tokenizer import load_tokenizer
from asr.data.words import BETWEEN, aligned_words, piece_of_frames, token_frames, words_of_pieces
from asr.frames import UNALIGNED
from asr.models.subsampling import ConvSubsampling, frame_timing

TIMING = frame_timing(4)


def cut_with(words, duration=4.0):
    """A cut without audio; words: (text, start, duration)."""
    items = [AlignmentItem(*word) for word in words]
    text = " ".join(item.symbol for item in items)
    supervision = SupervisionSegment("a", "a", 0.0, duration, text=text, alignment={"word": items} if items else None)
    return MonoCut("a", 0.0, duration, 0, [supervision])


def test_a_words_time_is_split_evenly_over_its_pieces():
    cut = cut_with([("ONE", 1.0, 0.8), ("TWO", 2.0, 0.4)])
    frames = token_frames(cut, ["\u2581", "O", "N", "E", "\u2581TW", "O"], TIMING)
    ends = [1.2, 1.4, 1.6, 1.8, 2.2, 2.4]
    assert frames == [TIMING.at(end) for end in ends]
    assert frames == [29, 34, 39, 44, 54, 59]


def test_frames_follow_the_speed():
    cut = cut_with([("ONE", 1.0, 0.8)])
    slow = MonoCut("a", 0.0, 4.0 / 0.8, 0, [s.perturb_speed(0.8, 16000) for s in cut.supervisions])
    assert token_frames(slow, ["\u2581ONE"], TIMING) == [TIMING.at(1.8 / 0.8)]


def test_a_word_before_the_utterance_is_in_its_first_frame_and_not_unknown():
    cut = cut_with([("ONE", -1.0, 0.5), ("TWO", 1.0, 0.5)])
    assert token_frames(cut, ["\u2581ONE", "\u2581TWO"], TIMING) == [0, TIMING.at(1.5)]


@pytest.mark.parametrize("factor", [4, 8])
def test_a_frame_has_the_piece_that_is_said_in_its_middle(factor):
    timing = frame_timing(factor)
    cut = cut_with([("ONE", 1.01, 0.8), ("TWO", 2.03, 0.4), ("X", 3.9, 0.5)])
    pieces = ["\u2581", "O", "N", "E", "\u2581TW", "O", "\u2581X"]
    times = [*((1.01 + 0.2 * n, 1.21 + 0.2 * n) for n in range(4)), (2.03, 2.23), (2.23, 2.43), (3.9, 4.4)]
    frames = timing.length(400)
    expected = [
        next((place for place, (begin, end) in enumerate(times) if begin <= timing.middle(frame) < end), BETWEEN)
        for frame in range(frames)
    ]
    assert piece_of_frames(cut, pieces, timing, frames) == expected
    assert set(expected) == {BETWEEN, *range(len(pieces))}
    assert piece_of_frames(cut, pieces[:-1], timing, frames) == [UNALIGNED] * frames


@pytest.mark.parametrize("words", [[], [("ONE", 1.0, 0.5)]])
def test_no_alignment_or_one_of_other_words_is_unknown(words):
    assert token_frames(cut_with(words), ["\u2581ONE", "\u2581T", "WO"], TIMING) == [UNALIGNED] * 3


@pytest.mark.parametrize("moved", ["padded", "joined", "mixed"])
def test_times_move_with_their_track(moved):
    cut = MonoCut(
        "a", 0, 2.0, 0, [cut_with([("HI", 0.4, 0.6)], 2.0).supervisions[0]], recording=dummy_recording(0, 2.0)
    )
    made = {
        "padded": lambda: cut.pad(duration=4.0, direction="left"),
        "joined": lambda: cut.drop_supervisions().append(cut),
        "mixed": lambda: cut.drop_supervisions().pad(duration=4.0).mix(cut, offset_other_by=2.0),
    }[moved]()
    assert token_frames(made, ["\u2581HI"], TIMING) == [TIMING.at(3.0)]


def test_words_of_tracks_that_overlap_are_in_the_order_of_the_transcript():
    early, late, between = (
        cut_with([(word, start, 0.2)]).supervisions[0] for word, start in (("A", 0.1), ("C", 2.1), ("B", 0.1))
    )
    late.start, late.id = 2.0, "late"
    audio = dummy_recording(0, 4.0)
    long, short = (
        MonoCut("a", 0, 4.0, 0, [early, late], recording=audio),
        MonoCut("b", 0, 2.0, 0, [between], recording=audio),
    )
    mixed = long.mix(short, offset_other_by=1.0)
    assert transcript(mixed) == "A B C"
    assert [(item.symbol, item.start) for item in aligned_words(mixed)] == [("A", 0.1), ("B", 1.1), ("C", 2.1)]


def test_silences_are_no_words():
    cut = cut_with([("", 0.0, 0.3), ("A", 0.3, 0.4), (" ", 0.7, 0.3), ("B", 1.0, 0.4)])
    assert [item.symbol for item in aligned_words(cut)] == ["A", "B"]
    assert token_frames(cut, ["\u2581A", "\u2581B"], TIMING) == [TIMING.at(0.7), TIMING.at(1.4)]


def test_pieces_of_words():
    assert words_of_pieces(["\u2581", "A", "B", "\u2581C", "\u2581", "D"]) == [[0, 1, 2], [3], [4, 5]]
    assert words_of_pieces(["A", "\u2581", "\u2581B", "\u2581"]) == [[0], [2]]
    assert words_of_pieces([]) == []


def test_pieces_of_scripts_without_blanks_belong_to_the_character_that_they_end_in():
    assert words_of_pieces(["\u2581", "今", "天", "气"]) == [[0, 1], [2], [3]]
    assert words_of_pieces(["\u2581", "今天", "气"]) == [[], [0, 1], [2]]
    assert words_of_pieces(["\u2581今", "O", "K", "天", "\u2581A", "B", "\u2581"]) == [[0], [1, 2], [3], [4, 5]]
    assert words_of_pieces(["\u2581\u0e17", "\u0e35\u0e48", "\u0e19", "\u0e35\u0e49"]) == [[0, 1], [2, 3]]


def test_however_a_text_is_cut_into_pieces_each_is_of_the_unit_it_ends_in():
    draw = random.Random(0)
    for _ in range(300):
        words = ["".join(draw.choices("ab今天\u0e17\u0e35", k=draw.randint(1, 6))) for _ in range(draw.randint(1, 3))]
        text = "\u2581" + "\u2581".join(words)
        cuts = sorted({0, len(text), *(place for place in range(len(text)) if text[place] == "\u2581")})
        cuts = sorted({*cuts, *draw.choices(range(len(text)), k=3)})
        pieces = [text[first:last] for first, last in pairwise(cuts)]
        groups = words_of_pieces(pieces)
        units = units_of_text(" ".join(words))
        assert len(groups) == len(units)
        assert [place for group in groups for place in group] == list(range(len(pieces)))
        for n, group in enumerate(groups):
            heard = "".join(pieces[: group[-1] + 1]).replace("\u2581", "") if group else ""
            before, now = (len("".join(units[:count])) for count in (n, n + 1))
            assert not group or before < len(heard) <= now


@pytest.mark.parametrize(
    "words",
    [
        [("今", 1.0, 0.4), ("天", 1.4, 0.4), ("OK", 2.0, 0.4)],
        [("今天", 1.0, 0.8), ("OK", 2.0, 0.4)],  # an aligner's word of two characters
    ],
)
def test_labels_of_scripts_without_blanks_have_the_times_of_their_characters(words):
    cut = cut_with(words)
    assert [(item.symbol, item.start, item.end) for item in aligned_words(cut)] == [
        ("今", 1.0, 1.4),
        ("天", 1.4, 1.8),
        ("OK", 2.0, 2.4),
    ]
    for pieces, ends in [
        (["\u2581", "今", "天", "O", "K"], [1.2, 1.4, 1.8, 2.2, 2.4]),
        (["\u2581今天", "OK"], [1.8, 2.4]),
    ]:
        assert token_frames(cut, pieces, TIMING) == [TIMING.at(end) for end in ends]


def test_no_blank_comes_between_supervisions_of_a_script_without():
    first, second = (cut_with([(text, 0.0, 0.4)]).supervisions[0] for text in ("今天 ", "天气"))
    second.start, second.id = 1.0, "late"
    assert transcript(MonoCut("a", 0.0, 4.0, 0, [first, second])) == "今天天气"


def test_a_frame_is_where_the_subsampling_looks():
    """The output frame that changes most when one feature frame does is the one that holds its time."""
    torch.manual_seed(0)
    subsampling = ConvSubsampling(80, 8, 16, 0.0).eval()
    features = torch.randn(1, 100, 80)
    lengths = torch.tensor([100])
    before = subsampling(features, lengths)[0]
    for feature_frame in (21, 33, 57):
        changed = features.clone()
        changed[0, feature_frame] += 10 * torch.randn(80)
        difference = (subsampling(changed, lengths)[0] - before).norm(dim=2)[0]
        touched = difference.nonzero()[:, 0].tolist()
        assert TIMING.at((feature_frame + 0.5) * 0.01) in touched
    assert TIMING.at(0.01 * (4 * 7 + 3.5)) == 7  # the middle of its 7 frames


def test_a_batch_has_the_frame_of_each_label(tiny_corpus):
    from lhotse import CutSet

    cuts = list(CutSet.from_file(tiny_corpus.dev))[:2]
    words = cuts[0].supervisions[0].text.split()
    cuts[0].supervisions[0].alignment = {"word": [AlignmentItem(w, 0.3 * n, 0.3) for n, w in enumerate(words)]}
    batch = SpeechDataset(80, TIMING, load_tokenizer(tiny_corpus.tokenizer))[Draw(cuts)]
    assert batch.alignment.shape == batch.labels.shape
    aligned = batch.alignment[0, : batch.label_lengths[0]]
    assert (aligned.diff() >= 0).all()
    assert aligned[-1] == pytest.approx(TIMING.at(0.3 * len(words)), abs=1)
    assert (batch.alignment[1, : batch.label_lengths[1]] == UNALIGNED).all()
    assert batch.frame_labels is None


def test_a_batch_has_the_label_of_each_frame_where_it_is_asked_for(tiny_corpus):
    from lhotse import CutSet

    tokenizer = load_tokenizer(tiny_corpus.tokenizer)
    cuts = list(CutSet.from_file(tiny_corpus.dev))[:2]
    words = cuts[1].supervisions[0].text.split()
    cuts[1].supervisions[0].alignment = {"word": [AlignmentItem(w, 0.1 + 0.3 * n, 0.2) for n, w in enumerate(words)]}
    batch = SpeechDataset(80, TIMING, tokenizer, views=2, label_frames=True)[Draw(cuts, Position())]
    frames = TIMING.length(batch.feature_frames).tolist()
    assert batch.frame_labels.shape == (4, max(frames))
    assert (batch.frame_labels[0] == UNALIGNED).all()
    said = batch.frame_labels[1]
    assert (said[frames[1] :] == UNALIGNED).all()
    in_order = [label for label in said[: frames[1]].unique_consecutive().tolist() if label]
    assert in_order == batch.labels[1, : batch.label_lengths[1]].unique_consecutive().tolist()
    assert said[0] == 0  # before the first word
    assert torch.equal(batch.frame_labels[3], said)
