"""Readings that are followed while they are in doubt: as they are written and compiled, against the definition."""

import math
from dataclasses import dataclass

import pytest
import torch
from arcs_by_definition import KINDS, arcs_of, arcs_of_node
from random_models import TableAutomaton, TableScorer, outputs, random_encoded, random_model

from asr.arcs.standard import standard_arcs
from asr.config import BeamOptions, FullLossOptions, GreedyOptions
from asr.data.tokenizer import train_tokenizer
from asr.decode import beam_compiled, node_compiled
from asr.decode.beam import BeamSearch
from asr.decode.beam_compiled import CompiledBeamSearch
from asr.decode.greedy import GreedySearch
from asr.decode.greedy_compiled import CompiledGreedySearch
from asr.decode.make import beam_search, make_search
from asr.decode.scorer import Tabulated
from asr.decode.search import search_all

VOCAB = 6
CPU = torch.device("cpu")
INF = math.inf


@dataclass
class Read:
    """A reading: log-probability of its alignments by the frame that they stand at; labels, frames, confidences."""

    at: dict
    labels: list
    frames: list
    log_probs: list

    def mass(self):
        return math.log(sum(map(math.exp, self.at.values()))) if self.at else -INF


def logadd(a, b):
    return max(a, b) + math.log1p(math.exp(-abs(a - b))) if min(a, b) > -INF else max(a, b)


@torch.no_grad()
def readings_by_definition(model, kind, encoded_TJ, limit, beam, margin, scorer=None, blank_penalty=0.0):
    """(score, labels, frames, log-probabilities) of the readings of one utterance, best first."""
    stays = any(move == (0, 1) for move in arcs_of(kind, VOCAB)[0].moves)

    def added(labels):
        return sum(float(scorer.table[n, label]) for n, label in enumerate(labels)) if scorer else 0.0

    def near(kept, others):
        best = max((s + added(one.labels) for one in kept + others for s in one.at.values()), default=-INF)
        for one in kept:
            one.at = {t: s for t, s in one.at.items() if s + added(one.labels) >= best - margin}
        return [one for one in kept if one.at]

    def best_of(found):
        return sorted(found, key=lambda one: -one.mass() - added(one.labels))[:beam]

    here, predicted = [Read({0: 0.0}, [], [], [])], {}
    for t in range(len(encoded_TJ)):
        left = []
        for symbols in range(limit + 1 if stays else 1):
            extended = []
            for one in here:
                beyond = Read({at: s for at, s in one.at.items() if at > t}, one.labels, one.frames, one.log_probs)
                left.append(beyond)
                if t not in one.at:
                    continue
                by_label = {}
                z = outputs(model, kind, encoded_TJ[t], one.labels, blank_penalty, predicted)
                arcs = arcs_of_node(kind, z)
                for (label, frames), weight in arcs.items():
                    if label:
                        by_label.setdefault(label, {})[t + frames] = weight
                    else:
                        beyond.at[t + frames] = logadd(beyond.at.get(t + frames, -INF), one.at[t] + weight)
                for label, weights in by_label.items():
                    log_prob = math.log(sum(map(math.exp, weights.values())))
                    at = {frame: one.at[t] + weight for frame, weight in weights.items()}
                    extended.append(Read(at, [*one.labels, label], [*one.frames, t], [*one.log_probs, log_prob]))
            here = near(best_of(extended), left) if symbols < limit or not stays else []
        by_labels = {}
        for one in left + here:
            by_labels.setdefault(tuple(one.labels), []).append(one)
        here = []
        for same in by_labels.values():
            joined = max(same, key=Read.mass)
            at = {}
            for one in same:
                for frame, score in one.at.items():
                    at[frame] = logadd(at.get(frame, -INF), score)
            here.append(Read(at, joined.labels, joined.frames, joined.log_probs))
        here = near(best_of(here), [])
    ends = [float(scorer.ends[len(one.labels)]) if scorer else 0.0 for one in here]
    found = [
        (one.mass() + added(one.labels) + end, one.labels, one.frames, one.log_probs) for one, end in zip(here, ends)
    ]
    return sorted(found, key=lambda one: -one[0])


def in_parts(search, encoded, frames, size):
    """What is found where `size` frames are read at a time."""
    session = search.begin(len(frames))
    for t in range(0, encoded.shape[1], size):
        session.read(encoded[:, t : t + size], (frames - t).clamp(0, size))
    return session.best()


# beam, margin in nats, labels of a frame
LIMITS = [(4, 1.5, 2), (3, 4.0, 2), (2, INF, 5), (1, 0.0, 1), (6, 0.5, 3)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("beam", "margin", "limit"), LIMITS)
def test_readings_are_those_of_the_definition(kind, beam, margin, limit, monkeypatch):
    monkeypatch.setattr(beam_compiled, "FIRST_LINKS", 1)  # so that room is made
    arcs, extra = arcs_of(kind, VOCAB)
    seed = 10 * beam
    model, (encoded, frames) = random_model(seed, VOCAB, extra).float(), random_encoded(seed, 3, 9)
    model.joiner.output.bias.data[0] -= 2.0 + 2.0 * kind.startswith("hat")  # or there are few labels
    encoded, scorer = encoded.float(), TableScorer(VOCAB, seed) if beam != 3 else None
    scorers = [Tabulated(TableAutomaton(scorer), 1.0, CPU)] if scorer else []
    penalty = 0.5 * (beam % 2)
    expected = [
        readings_by_definition(model, kind, row[:length], limit, beam, margin, scorer, penalty)
        for row, length in zip(encoded, frames)
    ]
    assert max(len(one[0][1]) for one in expected) > 0
    assert max(map(len, expected)) > 1 or margin < 1
    for search_type in (BeamSearch, CompiledBeamSearch):
        search = search_type(model, beam, arcs, limit, scorers, penalty, margin)
        for found in (search_all(search, encoded, frames), in_parts(search, encoded, frames, 3)):
            for hypotheses, wanted in zip(found, expected, strict=True):
                assert [one.tokens for one in hypotheses] == [labels for _, labels, _, _ in wanted]
                for one, (score, _, at, log_probs) in zip(hypotheses, wanted):
                    assert one.score == pytest.approx(score, abs=1e-4)
                    assert one.frames == at
                    assert one.confidences == pytest.approx([math.exp(log_prob) for log_prob in log_probs], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_readings_are_the_same_to_the_last_bit_whatever_they_are_searched_beside(kind, monkeypatch):
    arcs, extra = arcs_of(kind, VOCAB)
    model, (_, frames) = random_model(1, VOCAB, extra, joiner_dim=75).float(), random_encoded(1, 40, 20)
    encoded = torch.randn(40, 20, 75, generator=torch.Generator().manual_seed(1))
    search = CompiledBeamSearch(
        model, 4, arcs, 2, [Tabulated(TableAutomaton(TableScorer(VOCAB, 1)), 1.0, CPU)], 0.0, 2.0
    )
    together = search_all(search, encoded, frames)
    assert sum(len(found) > 1 for found in together) > 5
    assert search_all(search, encoded.flip(0), frames.flip(0)) == together[::-1]
    assert in_parts(search, encoded, frames, 7) == together
    alone = [search_all(search, encoded[b : b + 1, :length], frames[b : b + 1]) for b, length in enumerate(frames)]
    assert [found for (found,) in alone] == together
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(node_compiled, "WORTH_A_THREAD", 1)
    assert search_all(search, encoded, frames) == together


@pytest.mark.parametrize("search_type", [BeamSearch, CompiledBeamSearch])
def test_frames_at_which_no_reading_stands_are_not_counted_as_joined(search_type):
    arcs, extra = arcs_of("tdt", VOCAB)
    model = random_model(0, VOCAB, extra).float()
    model.joiner.output.bias.data[VOCAB:] = torch.tensor([0.0, 0.0, 0.0, 99.0])  # every arc leads 4 frames on
    encoded, frames = torch.randn(2, 12, 8), torch.tensor([12, 9])
    session = search_type(model, 3, arcs, 2, margin=5.0).begin(2)
    session.read(encoded[:, :6], frames.clamp(max=6))
    session.read(encoded[:, 6:], (frames - 6).clamp(min=0))
    assert session.joined() == 3 + 3


@pytest.mark.parametrize("search_type", [BeamSearch, CompiledBeamSearch])
def test_weights_that_are_no_numbers_give_a_score_that_is_none(search_type):
    model, (encoded, frames) = random_model(0).float(), random_encoded(0)
    model.joiner.output.bias.data[1] = math.nan
    found = search_all(search_type(model, 4, standard_arcs(), 2, margin=1.5), encoded.float(), frames)
    assert all(math.isnan(one.score) for (one,) in found)


def test_greedy_search_follows_readings_where_something_is_added_to_labels():
    tokenizer = train_tokenizer(["AB BA"], "char")
    model, loss = random_model(0, tokenizer.vocab_size).float(), FullLossOptions()
    plain = make_search(GreedyOptions(), model, loss, tokenizer)
    assert type(plain) is CompiledGreedySearch
    for options in (GreedyOptions(internal_lm_weight=0.1), GreedyOptions(internal_lm_weight=0.1, readings=2, margin=3)):
        search = make_search(options, model, loss, tokenizer)
        assert type(search) is CompiledBeamSearch
        assert (search.limits.beam, search.limits.margin) == (options.readings, options.margin)
    one = make_search(GreedyOptions(internal_lm_weight=0.1, readings=1), model, loss, tokenizer)
    assert type(one) is CompiledGreedySearch
    assert make_search(BeamOptions(beam=3), model, loss, tokenizer).limits.margin == INF
    assert make_search(GreedyOptions(), model, loss, tokenizer, ["AB"]).limits.beam == 4


def test_what_is_not_compiled_is_searched_as_it_is_written(monkeypatch):
    arcs, table = standard_arcs(), TableScorer(VOCAB, 0)
    for kind, model, scorers, as_icefall in (
        (CompiledBeamSearch, random_model(0).float(), [Tabulated(TableAutomaton(table), 1.0, CPU)], False),
        (BeamSearch, random_model(0).float(), [table], False),
        (BeamSearch, random_model(0).float(), [], True),
        (BeamSearch, random_model(0).bfloat16(), [], False),
    ):
        search = beam_search(model, 3, arcs, 2, scorers, 0.0, 1.5, as_icefall)
        assert type(search) is kind
        assert kind is CompiledBeamSearch or (search.margin, search.as_icefall) == (1.5, as_icefall)
    monkeypatch.setattr("asr.decode.beam_compiled.is_kept", lambda: False)
    assert type(beam_search(random_model(0).float(), 3, arcs, 2)) is BeamSearch


def test_a_reading_that_turns_out_better_takes_the_place_of_the_likelier():
    """What greedy search has decided for, whether there is a label or which, the next labels take back."""
    kept = 0
    for seed in range(4):
        model, (encoded, frames) = random_model(seed, VOCAB).float(), random_encoded(seed)
        scorers = [Tabulated(TableAutomaton(TableScorer(VOCAB, seed)), 1.0, CPU)]
        arcs = standard_arcs("modified")
        greedy = search_all(GreedySearch(model, 1, arcs, scorers), encoded.float(), frames)
        found = search_all(CompiledBeamSearch(model, 4, arcs, 1, scorers, 0.0, 1.5), encoded.float(), frames)
        best = search_all(CompiledBeamSearch(model, 60, arcs, 1, scorers), encoded.float(), frames)
        kept += sum(one[0].tokens == other[0].tokens for one, other in zip(found, best))
        kept -= sum(one[0].tokens == other[0].tokens for one, other in zip(greedy, best))
    assert kept > 3
