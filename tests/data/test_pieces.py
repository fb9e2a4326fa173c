"""Pieces that are drawn: from all spellings of a word by their probabilities, and the same when a run goes on."""

import itertools
import math
import random
from collections import Counter

import pytest

from asr.data.batch import Position
from asr.data.dataset import Draw, SpeechDataset
from asr.data.manifest import open_cuts
from asr.data.pieces import PieceSampler
from asr.data.sampler import frames_needed
from asr.data.tokenizer import train_tokenizer
from asr.errors import InputError
from asr.models.subsampling import frame_timing

TEXTS = ["ONE TWO THREE", "TEN ONES", "NEON TEN", "TWENTY ONE", "THREE TENTHS", "NOON NET"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, "unigram", 22)


def spellings(tokenizer, word):
    """All ways to spell a word, as ids, and their log-probabilities, by definition."""
    known = {piece: id_ for id_, piece in enumerate(tokenizer.pieces) if id_ > 1}
    found = {}
    for count in range(len(word)):
        for cuts in itertools.combinations(range(1, len(word)), count):
            parts = [word[a:b] for a, b in itertools.pairwise([0, *cuts, len(word)])]
            if all(part in known for part in parts):
                ids = tuple(known[part] for part in parts)
                found[ids] = sum(tokenizer.log_probs[id_] for id_ in ids)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_spellings_are_drawn_by_their_probabilities(tokenizer, alpha):
    sampler, rng, word, draws = (
        PieceSampler(tokenizer, alpha, seed=0, frames_for=len),
        random.Random(0),
        "\u2581TENTHS",
        4000,
    )
    weights = {ids: math.exp(alpha * log_prob) for ids, log_prob in spellings(tokenizer, word).items()}
    assert len(weights) >= 5
    counts = Counter(tuple(sampler.spell(word, rng)) for _ in range(draws))
    assert counts.keys() <= weights.keys()
    for ids, weight in weights.items():
        share = weight / sum(weights.values())
        assert counts[ids] / draws == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / draws) + 1e-9)


def test_a_high_power_draws_what_is_likeliest(tokenizer):
    sampler = PieceSampler(tokenizer, 100.0, seed=0, frames_for=len)
    for text in TEXTS[:6]:
        assert sampler(text, 0, "u", frames=99) == tokenizer.encode(text)


def test_what_is_drawn_spells_the_text_and_follows_from_seed_epoch_and_utterance(tokenizer):
    text, sampler = "TWENTY  THREE TENTHS", PieceSampler(tokenizer, 0.1, seed=0, frames_for=len)
    drawn = sampler(text, 3, "u", frames=99)
    assert tokenizer.decode(drawn) == "TWENTY THREE TENTHS"
    assert PieceSampler(tokenizer, 0.1, seed=0, frames_for=len)(text, 3, "u", frames=99) == drawn
    other_seed = PieceSampler(tokenizer, 0.1, seed=1, frames_for=len)
    others = [sampler(text, 4, "u", 99), sampler(text, 3, "v", 99), other_seed(text, 3, "u", 99)]
    assert all(other != drawn and tokenizer.decode(other) == "TWENTY THREE TENTHS" for other in others)


def test_the_likeliest_pieces_stand_for_more_than_there_may_be(tokenizer):
    sampler, text = PieceSampler(tokenizer, 0.0, seed=0, frames_for=len), "TWENTY THREE TENTHS"
    longest = max((sampler(text, epoch, "u", frames=99) for epoch in range(20)), key=len)
    assert len(longest) > len(tokenizer.encode(text))
    for epoch in range(20):
        assert len(sampler(text, epoch, "u", frames=len(longest) - 1)) < len(longest)
    assert sampler(text, 0, "u", frames=0) == tokenizer.encode(text)


def test_equal_neighbours_need_a_frame_between_them_where_ctc_is_trained(tokenizer):
    """The longest draws of a word of two equal letters: as many frames as labels are too few for CTC, which would be
    trained on nothing, in silence."""
    text, lattice, ctc = "THREE", *(PieceSampler(tokenizer, 0.0, 0, frames_for) for frames_for in (len, frames_needed))
    repeated = [
        epoch for epoch in range(60) if lattice(text, epoch, "u", 5 + 1)[-2:] == 2 * [tokenizer.pieces.index("E")]
    ]
    assert repeated
    for epoch in repeated:
        drawn = lattice(text, epoch, "u", 99)
        assert lattice(text, epoch, "u", len(drawn)) == ctc(text, epoch, "u", len(drawn) + 1) == drawn
        assert ctc(text, epoch, "u", len(drawn)) == tokenizer.encode(text)


def test_text_that_cannot_be_spelled_and_pieces_without_probabilities_are_refused(tokenizer):
    with pytest.raises(InputError, match="character 'Q' of 'QED' is not in the tokenizer's vocabulary"):
        PieceSampler(tokenizer, 0.1, seed=0, frames_for=len)("ONE QED", 0, "u", frames=99)
    with pytest.raises(InputError, match="data.sample_pieces=0.1: .* no probabilities .*kind=unigram"):
        PieceSampler(train_tokenizer(TEXTS, "bpe", 24), 0.1, seed=0, frames_for=len)


def test_training_batches_have_drawn_labels_alike_in_both_views_and_again_for_the_same_place(tiny_corpus):
    cuts = list(open_cuts([str(tiny_corpus.train)]))[:4]
    texts = [cut.supervisions[0].text for cut in open_cuts([str(tiny_corpus.train)])]
    tokenizer = train_tokenizer(texts, "unigram", 17)

    def labels(position, timing=None):
        sampler = PieceSampler(tokenizer, 0.1, seed=0, frames_for=len)
        dataset = SpeechDataset(80, timing or frame_timing(2), tokenizer, views=2, sampler=sampler)
        batch = dataset[Draw(cuts, position, done=position and Position(position.epoch + 1, 0))]
        rows = [ids[:count].tolist() for ids, count in zip(batch.labels, batch.label_lengths)]
        return rows[: len(cuts)], rows[len(cuts) :]

    likeliest = [tokenizer.encode(text) for text in texts[:4]]
    first, second = labels(Position(0, 5))
    assert first == second != likeliest
    assert labels(Position(0, 9))[0] == first  # of the epoch, not of the batch, nor of what comes after it
    assert labels(Position(1, 5))[0] != first
    assert labels(None)[0] == likeliest
    drawn = labels(Position(0, 5), frame_timing(16))[0]
    frames = [frame_timing(16).length(round(cut.duration * 100)) for cut in cuts]
    assert all(len(row) <= max(most, len(ids)) for row, most, ids in zip(drawn, frames, likeliest))
