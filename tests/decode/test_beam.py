"""Beam search against all label sequences and all of their alignments."""

import math
from itertools import product

import pytest
import torch
from random_models import random_encoded, random_model

from asr.decode.beam import BeamSearch
from asr.decode.greedy import GreedySearch
from asr.decode.search import search_all


class TableScorer:
    """Adds a number to each label, and at the end, that depend on how many labels there are."""

    def __init__(self, vocab_size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(10, vocab_size, generator=generator)
        self.table[:, 0] = 0
        self.ends = torch.randn(10, generator=generator)

    def start(self, count):
        return torch.zeros(count, dtype=torch.long)

    def scores(self, state):
        return self.table[state]

    def advance(self, state, label):
        return state + (label != 0)

    def final(self, state):
        return self.ends[state]

    def total(self, labels):
        return float(sum(self.table[n, label] for n, label in enumerate(labels)) + self.ends[len(labels)])


@torch.no_grad()
def sequence_log_prob(model, encoded_TJ, labels, topology, limit):
    """log of the sum over a sequence's alignments, by recursion over (frame, labels so far, labels of this frame)."""
    predicted = model.predict(torch.tensor([labels], dtype=torch.long))[0]
    logits = model.joiner(encoded_TJ.repeat_interleave(len(predicted), 0), predicted.repeat(len(encoded_TJ), 1))
    arcs = logits.softmax(-1).view(len(encoded_TJ), len(predicted), -1).tolist()
    mass = {(0, 0, 0): 1.0}
    for t in range(len(encoded_TJ)):
        for u in range(len(predicted)):
            for emitted in range(limit + 1):
                here = mass.get((t, u, emitted), 0.0)
                steps = [((t + 1, u, 0), arcs[t][u][0])]
                if u < len(labels) and emitted < limit:
                    after = (t, u + 1, emitted + 1) if topology == "regular" else (t + 1, u + 1, 0)
                    steps.append((after, arcs[t][u][labels[u]]))
                for state, probability in steps:
                    mass[state] = mass.get(state, 0.0) + here * probability
    total = mass.get((len(encoded_TJ), len(labels), 0), 0.0)
    return math.log(total) if total > 0 else -math.inf


def all_sequences(model, encoded_TJ, topology, limit, scorer=None):
    """Every label sequence with its score, best first."""
    longest = len(encoded_TJ) * limit
    found = []
    for length in range(longest + 1):
        for labels in product(range(1, model.vocab_size), repeat=length):
            score = sequence_log_prob(model, encoded_TJ, list(labels), topology, limit)
            found.append((score + (scorer.total(labels) if scorer else 0.0), list(labels)))
    return sorted(found, reverse=True)


CASES = [("modified", 1, 4), ("modified", 1, 3), ("regular", 1, 3), ("regular", 2, 2)]  # topology, limit, frames


@pytest.mark.parametrize("block", range(10))
def test_a_beam_as_wide_as_the_space_finds_the_most_probable_sequence(block):
    """500 random models: all hypotheses are those of brute force, with the sums over their alignments."""
    for seed in range(50 * block, 50 * block + 50):
        topology, limit, frames = CASES[seed % len(CASES)]
        model = random_model(seed, vocab_size=3)
        scorer = TableScorer(3, seed) if seed % 2 else None
        encoded, _ = random_encoded(seed, 1, frames)
        every = all_sequences(model, encoded[0], topology, limit, scorer)
        search = BeamSearch(model, len(every), topology, limit, [scorer] if scorer else [])
        ((best, *others),) = search_all(search, encoded, torch.tensor([frames]))
        assert best.tokens == every[0][1]
        assert best.score == pytest.approx(every[0][0], abs=1e-5 if scorer else 1e-9)
        found = sorted((hypothesis.score, hypothesis.tokens) for hypothesis in [best, *others])
        assert len(found) == len(every)
        for (score, tokens), (wanted, labels) in zip(reversed(found), every):
            assert score == pytest.approx(wanted, abs=1e-5)
            assert tokens == labels


@pytest.mark.parametrize(("topology", "limit"), [("modified", 1), ("regular", 3)])
@pytest.mark.parametrize("beam", [1, 3, 8])
def test_result_does_not_depend_on_the_batch_or_on_the_parts_that_are_read(beam, topology, limit):
    model, (encoded, frames) = random_model(5), random_encoded(5)
    search = BeamSearch(model, beam, topology, limit, [TableScorer(model.vocab_size, 0)])
    search.scorer.scorers[0].table.zero_()  # more labels than it has rows
    search.scorer.scorers[0].advance = lambda state, label: state
    together = search_all(search, encoded, frames)
    for row in range(len(frames)):
        (alone,) = search_all(search, encoded[row : row + 1, : frames[row]], frames[row : row + 1])
        session = search.begin(1)
        for t in range(int(frames[row])):
            session.read(encoded[row : row + 1, t : t + 1], torch.ones(1, dtype=torch.long))
        for other in (alone, session.best()[0]):
            assert [h.tokens for h in other] == [h.tokens for h in together[row]]
            assert [h.frames for h in other] == [h.frames for h in together[row]]
            assert [h.score for h in other] == pytest.approx([h.score for h in together[row]], rel=1e-9)


def test_hypotheses_differ_and_are_in_order():
    model, (encoded, frames) = random_model(2), random_encoded(2)
    for hypotheses in search_all(BeamSearch(model, 6, "modified"), encoded, frames):
        assert len({tuple(hypothesis.tokens) for hypothesis in hypotheses}) == len(hypotheses)
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for hypothesis in hypotheses:
            assert hypothesis.frames == sorted(set(hypothesis.frames))  # at most one label a frame
            assert len(hypothesis.frames) == len(hypothesis.tokens) == len(hypothesis.confidences)
            assert all(0 < confidence <= 1 for confidence in hypothesis.confidences)


def test_a_beam_is_better_than_greedy_on_the_whole():
    total = {"greedy": 0.0, "beam": 0.0}
    for seed in range(20):
        model, (encoded, frames) = random_model(seed, vocab_size=5), random_encoded(seed)
        searches = {"greedy": GreedySearch(model, 1), "beam": BeamSearch(model, 4, "modified")}
        for name, search in searches.items():
            for row, (best, *_) in enumerate(search_all(search, encoded, frames)):
                total[name] += sequence_log_prob(model, encoded[row, : frames[row]], best.tokens, "modified", 1)
    assert total["beam"] > total["greedy"] + 10


def test_merging_adds_up_what_greedy_would_count_once():
    """Two frames, either of which can emit the only label: its sequence has the sum of both alignments."""
    model = random_model(0, vocab_size=2)
    torch.nn.init.zeros_(model.joiner.output.weight)
    model.joiner.output.bias.data = torch.tensor([0.55, 0.45], dtype=torch.double).log()
    ((best, *_),) = search_all(BeamSearch(model, 4, "modified"), torch.zeros(1, 2, 8).double(), torch.tensor([2]))
    assert best.tokens == [1]
    assert best.score == pytest.approx(math.log(2 * 0.55 * 0.45))
    ((greedy,),) = search_all(GreedySearch(model, 1), torch.zeros(1, 2, 8).double(), torch.tensor([2]))
    assert greedy.tokens == []
