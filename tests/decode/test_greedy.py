"""Batched greedy search, as it is written and compiled, against one utterance and one frame at a time."""

import math
from collections.abc import Container

import pytest
import torch
from arcs_by_definition import KINDS, arcs_of, arcs_of_node
from greedy_ways import InSteps
from random_models import TableAutomaton, TableScorer, outputs, random_encoded, random_model
from torch import Tensor

from asr.arcs.standard import standard_arcs
from asr.config import (
    BeamOptions,
    FullLossOptions,
    GreedyOptions,
    HatArcOptions,
    K2BeamOptions,
    MultiBlankArcOptions,
    TdtArcOptions,
)
from asr.decode import greedy, node_compiled
from asr.decode.beam import BeamSearch
from asr.decode.beam_compiled import CompiledBeamSearch
from asr.decode.greedy import GreedySearch
from asr.decode.greedy_compiled import CompiledGreedySearch
from asr.decode.make import greedy_search, make_search
from asr.decode.scorer import Tabulated
from asr.decode.search import Hypothesis, Search, search_all
from asr.errors import InputError
from asr.models.transducer import Transducer

LONGEST, VOCAB = 12, 6
CPU = torch.device("cpu")


@pytest.fixture(params=[GreedySearch, InSteps, CompiledGreedySearch])
def search_type(request, monkeypatch):
    monkeypatch.setattr(greedy, "STEPS", 4)
    return request.param


@torch.no_grad()
def naive_greedy(model: Transducer, encoder_out_TJ: Tensor, limit: int) -> Hypothesis:
    """Textbook greedy search of one utterance; the predictor reads all labels so far, as in training."""
    tokens, frames, score, confidences = [], [], 0.0, []
    for t, frame in enumerate(encoder_out_TJ):
        for _ in range(limit):
            predicted = model.predict(torch.tensor([tokens], dtype=torch.long))[:, -1]
            log_probs = model.joiner(frame[None], predicted)[0].log_softmax(-1)
            best = int(log_probs.argmax())
            score += float(log_probs[best])
            if best == 0:
                break
            tokens.append(best)
            frames.append(t)
            confidences.append(float(log_probs[best].exp()))
    return Hypothesis(tokens, frames, score, confidences)


def decode(search: Search, encoded: Tensor, frames: Tensor) -> list[Hypothesis]:
    """What greedy search finds, one hypothesis for each utterance."""
    found = search_all(search, encoded, frames)
    assert all(len(hypotheses) == 1 for hypotheses in found)
    return [hypothesis for (hypothesis,) in found]


def assert_same(actual: Hypothesis, expected: Hypothesis) -> None:
    assert actual.tokens == expected.tokens
    assert actual.frames == expected.frames
    assert actual.score == pytest.approx(expected.score, rel=1e-9)
    assert actual.confidences == pytest.approx(expected.confidences, rel=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_batch_equals_the_naive_loop(seed, monkeypatch):
    model, (encoded, frames) = random_model(seed), random_encoded(seed)
    limit = 1 + seed % 4
    expected = [naive_greedy(model, row[:length], limit) for row, length in zip(encoded, frames)]
    assert any(hypothesis.tokens for hypothesis in expected)
    ways = (GreedySearch, 1), (GreedySearch, 16), (GreedySearch, 64), (InSteps, 64), (CompiledGreedySearch, 0)
    for search_type, rows in ways:
        monkeypatch.setattr(greedy, "ROWS", rows)
        found = decode(search_type(model, limit, standard_arcs()), encoded, frames)
        for hypothesis, wanted in zip(found, expected, strict=True):
            assert_same(hypothesis, wanted)


@pytest.mark.parametrize("seed", range(5))
def test_result_does_not_depend_on_the_batch(seed, search_type):
    model, (encoded, frames) = random_model(seed), random_encoded(100 + seed)
    search = search_type(model, 3, standard_arcs())
    together = decode(search, encoded, frames)
    for size in (1, 2):
        parts = zip(encoded.split(size), frames.split(size))
        found = [h for rows, lengths in parts for h in decode(search, rows[:, : lengths.max()], lengths)]
        for hypothesis, expected in zip(found, together, strict=True):
            assert_same(hypothesis, expected)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_frame_emits_more_than_the_limit(limit, search_type):
    model = random_model(0)
    model.joiner.output.bias.data[0] = -1e3  # never blank: every frame emits all that it may
    encoded, frames = random_encoded(0)
    search = search_type(model, limit, standard_arcs())
    for hypothesis, length in zip(decode(search, encoded, frames), frames.tolist()):
        assert hypothesis.frames == [t for t in range(length) for _ in range(limit)]
        assert 0 not in hypothesis.tokens


@torch.no_grad()
def path_score(model: Transducer, encoder_out_TJ: Tensor, hypothesis: Hypothesis, limit: int) -> float:
    """Sum of the log-probabilities of the arcs of a path: no blank leaves a frame that was cut off."""
    predicted = model.predict(torch.tensor([hypothesis.tokens], dtype=torch.long))[0]
    score, u = 0.0, 0
    for t, frame in enumerate(encoder_out_TJ):
        emitted = [token for token, at in zip(hypothesis.tokens, hypothesis.frames) if at == t]
        for arc in [*emitted, 0][:limit]:
            score += float(model.joiner(frame[None], predicted[u, None])[0].log_softmax(-1)[arc])
            u += arc != 0
    return score


@pytest.mark.parametrize("limit", [1, 3])
def test_score_is_the_sum_of_the_arcs_taken(limit, search_type):
    model, (encoded, frames) = random_model(7), random_encoded(7)
    search = search_type(model, limit, standard_arcs())
    for hypothesis, row, length in zip(decode(search, encoded, frames), encoded, frames):
        assert hypothesis.score < -1e-3
        assert hypothesis.score == pytest.approx(path_score(model, row[:length], hypothesis, limit), rel=1e-5)


def test_model_that_always_says_blank_gives_nothing(search_type):
    model, (encoded, frames) = random_model(0), random_encoded(0)
    torch.nn.init.zeros_(model.joiner.output.weight)
    model.joiner.output.bias.data = torch.tensor([20.0, 0.0, 0.0, 0.0]).double()
    arc = float(model.joiner.output.bias.detach().log_softmax(-1)[0])
    search = search_type(model, 5, standard_arcs())
    for hypothesis, length in zip(decode(search, encoded, frames), frames.tolist()):
        assert (hypothesis.tokens, hypothesis.frames) == ([], [])
        assert hypothesis.score == pytest.approx(length * arc, rel=1e-5)


@pytest.mark.parametrize("sizes", [[1] * LONGEST, [5, 0, 7], [11, 1]])
@pytest.mark.parametrize("limit", [1, 3])
def test_reading_in_parts_gives_the_result_of_the_whole(sizes, limit, search_type):
    model, (encoded, frames) = random_model(3), random_encoded(3)
    search = search_type(model, limit, standard_arcs())
    session, begin = search.begin(len(frames)), 0
    for size in sizes:
        session.read(encoded[:, begin : begin + size], (frames - begin).clamp(0, size))
        begin += size
    for (hypothesis,), expected in zip(session.best(), decode(search, encoded, frames), strict=True):
        assert_same(hypothesis, expected)


# Arcs that are not the standard ones


@torch.no_grad()
def naive_path(
    model: Transducer,
    kind: str,
    encoder_out_TJ: Tensor,
    limit: int,
    scorer: TableScorer | None = None,
    blank_penalty: float = 0.0,
) -> tuple[Hypothesis, list[int]]:
    """From the likeliest arc to the likeliest arc, for one utterance; and the frames at which there was a node."""
    found, read = Hypothesis([], [], 0.0, []), []
    t = emitted = 0
    score = 0.0
    while t < len(encoder_out_TJ):
        read.append(t)
        arcs = arcs_of_node(kind, outputs(model, kind, encoder_out_TJ[t], found.tokens, blank_penalty))
        choice = likeliest_arc(arcs, scorer, len(found.tokens))
        token, frames = choice
        score += arcs[choice] + (float(scorer.table[len(found.tokens), token]) if scorer and token else 0.0)
        if token:
            found.tokens.append(token)
            found.frames.append(t)
            found.confidences.append(total(arcs, {token}))
            emitted += 1
            frames = max(frames, int(emitted == limit))
        t, emitted = t + frames, 0 if frames else emitted
    score += float(scorer.ends[len(found.tokens)]) if scorer else 0.0
    return Hypothesis(found.tokens, found.frames, score, found.confidences), read


def likeliest_arc(arcs: dict[tuple[int, int], float], scorer: TableScorer | None, labels: int) -> tuple[int, int]:
    """(token, frames); with a scorer first whether there is a label, by the model alone, and then which."""
    if not scorer:
        return max(arcs, key=arcs.__getitem__)
    is_label = max(arcs, key=arcs.__getitem__)[0] > 0
    with_scores = {(k, d): value + float(scorer.table[labels, k]) for (k, d), value in arcs.items()}
    return max((arc for arc in arcs if (arc[0] > 0) == is_label), key=with_scores.__getitem__)


def total(arcs: dict[tuple[int, int], float], tokens: Container[int]) -> float:
    """Probability of the arcs of some tokens."""
    return sum(math.exp(value) for (token, _), value in arcs.items() if token in tokens)


@pytest.mark.parametrize("kind", KINDS[2:])
@pytest.mark.parametrize("seed", range(8))
def test_the_likeliest_arc_of_any_kind_is_followed(seed, kind):
    arcs, extra = arcs_of(kind, VOCAB)
    model, (encoded, frames) = random_model(seed, VOCAB, extra), random_encoded(seed)
    model.joiner.output.bias.data[0] -= 2.0 * kind.startswith("hat")  # or blank is likelier than all labels together
    limit = 1 + seed % 3
    expected = [naive_path(model, kind, row[:length], limit)[0] for row, length in zip(encoded, frames)]
    assert any(hypothesis.tokens for hypothesis in expected)
    for search in (one(model, limit, arcs) for one in (GreedySearch, InSteps, CompiledGreedySearch)):
        for size in (len(frames), 1, 3):  # whatever is in the batch
            parts = zip(encoded.split(size), frames.split(size))
            found = [h for rows, lengths in parts for h in decode(search, rows[:, : lengths.max()], lengths)]
            for hypothesis, wanted in zip(found, expected, strict=True):
                assert_same(hypothesis, wanted)


@pytest.mark.parametrize("kind", KINDS[2:])
@pytest.mark.parametrize("sizes", [[1] * LONGEST, [5, 0, 7], [2, 3, 1, 6]])
def test_arcs_may_lead_over_the_end_of_a_part(sizes, kind, search_type):
    arcs, extra = arcs_of(kind, VOCAB)
    model, (encoded, frames) = random_model(3, VOCAB, extra), random_encoded(3)
    search = search_type(model, 2, arcs)
    session, begin = search.begin(len(frames)), 0
    for size in sizes:
        session.read(encoded[:, begin : begin + size], (frames - begin).clamp(0, size))
        begin += size
    for (hypothesis,), expected in zip(session.best(), decode(search, encoded, frames), strict=True):
        assert_same(hypothesis, expected)


@pytest.mark.parametrize("kind", ["tdt", "tdt modified", "multi_blank", "multi_blank modified"])
def test_frames_that_are_skipped_are_never_joined(kind):
    arcs, extra = arcs_of(kind, VOCAB)
    model, (encoded, _) = random_model(5, VOCAB, extra), random_encoded(5, batch=1, longest=40)
    encoded = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0)).double()
    seen = []
    hook = model.joiner.register_forward_pre_hook(lambda module, rows: seen.append(rows[0].flatten(0, -2)))
    session = GreedySearch(model, 3, arcs).begin(1)
    session.read(encoded, torch.tensor([40]))
    hook.remove()
    joined = [int((encoded[0] == row).all(1).nonzero()) for row in torch.cat(seen)]
    _, read = naive_path(model, kind, encoded[0], 3)
    assert joined == read
    assert session.joined() == len(set(joined)) < 40


@pytest.mark.parametrize("kind", ["standard", "tdt", "multi_blank"])
def test_the_frames_that_are_joined_are_counted_once_whatever_is_in_the_batch(kind, search_type):
    arcs, extra = arcs_of(kind, VOCAB)
    model, (encoded, frames) = random_model(5, VOCAB, extra), random_encoded(5)
    session = search_type(model, 3, arcs).begin(len(frames))
    for t in range(0, LONGEST, 4):
        session.read(encoded[:, t : t + 4], (frames - t).clamp(0, 4))
    read = [set(naive_path(model, kind, row[:length], 3)[1]) for row, length in zip(encoded, frames)]
    assert session.joined() == sum(map(len, read))
    assert (session.joined() == int(frames.sum())) == (kind == "standard")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scored", "blank_penalty"), [(True, 0.0), (False, 1.0), (True, 1.0)])
def test_what_is_added_to_labels_and_taken_off_blanks(kind, scored, blank_penalty):
    """Against one utterance and one node at a time, read as a whole, alone and in parts."""
    arcs, extra = arcs_of(kind, VOCAB)
    plain, labels = [], []
    for seed in range(3):
        model, (encoded, frames) = random_model(seed, VOCAB, extra), random_encoded(seed)
        scorer, limit = TableScorer(VOCAB, seed) if scored else None, 1 + seed
        scorers = [Tabulated(TableAutomaton(scorer), 1.0, CPU)] if scorer else []
        given = model, limit, arcs, scorers, blank_penalty
        searches = [GreedySearch(*given), CompiledGreedySearch(*given)]
        in_steps = decode(InSteps(*given), encoded, frames)
        wanted = [
            naive_path(model, kind, row[:length], limit, scorer, blank_penalty)[0]
            for row, length in zip(encoded, frames)
        ]
        for search in searches:
            in_parts = search.begin(len(frames))
            for t in range(LONGEST):
                in_parts.read(encoded[:, t : t + 1], (frames - t).clamp(0, 1))
            alone = [decode(search, encoded[b : b + 1, :n], frames[b : b + 1])[0] for b, n in enumerate(frames)]
            together = decode(search, encoded, frames)
            for found in (alone, [one for (one,) in in_parts.best()], together, in_steps):
                for hypothesis, expected in zip(found, wanted, strict=True):
                    assert_same(hypothesis, expected)
        plain += [one.tokens for one in decode(GreedySearch(model, limit, arcs), encoded, frames)]
        labels += [one.tokens for one in wanted]
    assert labels != plain


@pytest.mark.parametrize("kind", ["standard", "tdt"])
def test_probabilities_do_not_depend_on_how_many_nodes_they_are_made_of_at_once(kind, monkeypatch):
    arcs, extra = arcs_of(kind, VOCAB)
    model, (encoded, frames) = random_model(2, VOCAB, extra), random_encoded(2)
    search = GreedySearch(model, 2, arcs)
    expected = decode(search, encoded, frames)
    monkeypatch.setattr(greedy, "MOST_LOGITS", 1)
    for hypothesis, wanted in zip(decode(search, encoded, frames), expected, strict=True):
        assert_same(hypothesis, wanted)


@pytest.mark.parametrize(
    "arcs", [TdtArcOptions(), MultiBlankArcOptions(), HatArcOptions()], ids=["tdt", "multi", "hat"]
)
def test_a_model_is_never_read_as_if_it_had_other_arcs(arcs):
    model, loss = random_model(0, VOCAB, arcs.extra_outputs).float(), FullLossOptions(arcs=arcs)
    message = f"k2 knows the standard arcs alone, .* loss.arcs.name={arcs.name}: use decode=greedy or decode=beam"
    with pytest.raises(InputError, match=message):
        make_search(K2BeamOptions(), model, loss, tokenizer=None)
    for search in (GreedyOptions(), BeamOptions()):
        assert make_search(search, model, loss, tokenizer=None).arcs.name == arcs.name


# What is compiled alone


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_an_utterance_has_the_same_result_to_the_last_bit_whatever_it_is_searched_beside(kind, monkeypatch):
    arcs, extra = arcs_of(kind, VOCAB)
    model, (encoded, frames) = random_model(1, VOCAB, extra, joiner_dim=75).float(), random_encoded(1, 13, 30)
    encoded = torch.randn(13, 30, 75, generator=torch.Generator().manual_seed(1))
    table = TableAutomaton(TableScorer(VOCAB, 1))
    search = CompiledGreedySearch(model, 2, arcs, [Tabulated(table, 1.0, CPU)])
    together = decode(search, encoded, frames)
    assert sum(len(one.tokens) for one in together) > 30
    assert decode(search, encoded.flip(0), frames.flip(0)) == together[::-1]
    alone = (decode(search, encoded[b : b + 1, :length], frames[b : b + 1]) for b, length in enumerate(frames))
    assert [one for (one,) in alone] == together
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(node_compiled, "WORTH_A_THREAD", 1)
    assert decode(search, encoded, frames) == together
    for found, wanted in zip(together, decode(GreedySearch(model, 2, arcs, search.scorers), encoded, frames)):
        assert (found.tokens, found.frames) == (wanted.tokens, wanted.frames)
        assert found.score == pytest.approx(wanted.score, abs=1e-4)
        assert found.confidences == pytest.approx(wanted.confidences, abs=1e-5)


def test_compiled_several_scorers_add_up_and_are_asked_anew_of_labels_that_they_do_not_know():
    model, (encoded, frames) = random_model(4, VOCAB), random_encoded(4)
    found = {}
    for search in (GreedySearch, InSteps, CompiledGreedySearch):
        scorers = [Tabulated(TableAutomaton(TableScorer(VOCAB, seed)), 0.5, CPU, 1) for seed in (0, 1)]
        found[search] = [decode(search(model, 3, standard_arcs(), scorers), encoded, frames) for _ in range(2)]
    for others, written in zip(found[CompiledGreedySearch] + found[InSteps], 2 * found[GreedySearch], strict=True):
        for hypothesis, wanted in zip(others, written, strict=True):
            assert (hypothesis.tokens, hypothesis.frames) == (wanted.tokens, wanted.frames)
            assert hypothesis.score == pytest.approx(wanted.score, abs=1e-5)  # their sum is in float32


@pytest.mark.parametrize("kind", [GreedySearch, InSteps, CompiledGreedySearch, BeamSearch, CompiledBeamSearch])
def test_what_is_under_way_keeps_its_tables_when_others_begin_new_ones(kind):
    model, (encoded, frames) = random_model(4, VOCAB).float(), random_encoded(4)
    encoded = encoded.float()
    scorer = Tabulated(TableAutomaton(TableScorer(VOCAB, 0)), 0.5, CPU, largest_table=1)
    search = kind(model, 3, arcs=standard_arcs(), scorers=[scorer])
    expected = search_all(search, encoded, frames)
    session, half = search.begin(len(encoded)), encoded.shape[1] // 2
    session.read(encoded[:, :half], frames.clamp(max=half))
    other = search.begin(1)
    other.read(encoded[:1, :half], frames[:1].clamp(max=half))
    session.read(encoded[:, half:], (frames - half).clamp(min=0))
    for (found, *_), (wanted, *_) in zip(session.best(), expected, strict=True):
        assert found.tokens == wanted.tokens
        assert found.score == pytest.approx(wanted.score)


def test_weights_that_are_no_numbers_give_a_score_that_is_none(search_type):
    model, (encoded, frames) = random_model(0), random_encoded(0)
    model.joiner.output.bias.data[1] = math.nan
    assert all(math.isnan(one.score) for one in decode(search_type(model, 2, standard_arcs()), encoded, frames))


def test_what_is_not_compiled_is_searched_as_it_is_written(monkeypatch):
    hooked = random_model(0)
    hooked.joiner.register_forward_hook(lambda module, rows, logits: 2 * logits)
    standard, known = standard_arcs(), [Tabulated(TableAutomaton(TableScorer(VOCAB, 0)), 1.0, CPU)]
    for kind, model, arcs, scorers in (
        (CompiledGreedySearch, random_model(0), standard, []),
        (CompiledGreedySearch, random_model(0).float(), standard, known),
        (GreedySearch, random_model(0).bfloat16(), standard, []),
        (GreedySearch, random_model(0).to("meta"), standard, []),
        (GreedySearch, hooked, standard, []),
        (GreedySearch, random_model(0), standard.with_rest(), []),
        (GreedySearch, random_model(0), standard, [*known, TableScorer(VOCAB, 0)]),
    ):
        assert type(greedy_search(model, 2, arcs, scorers)) is kind
    monkeypatch.setattr("asr.decode.greedy_compiled.is_kept", lambda: False)
    assert type(greedy_search(random_model(0), 2, standard)) is GreedySearch


def test_weights_that_a_compiled_search_has_read_may_be_divided_over_processes_afterwards():
    model = random_model(0)
    CompiledGreedySearch(model, 2, standard_arcs())
    for parameter in model.parameters():
        parameter.untyped_storage().resize_(0)  # raises while numpy holds it
        assert parameter.untyped_storage().nbytes() == 0
