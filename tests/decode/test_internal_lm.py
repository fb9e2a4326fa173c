"""The internal language model against the definition."""

import math

import pytest
import torch
from scoring import total
from small_model import small_options

from asr.decode.internal_lm import InternalLanguageModel, internal_lm_scorer
from asr.models.transducer import Transducer


def random_model(context_size: int, extra_outputs: int = 0) -> Transducer:
    torch.manual_seed(context_size)
    model = Transducer(small_options(layers=1, context_size=context_size), 6, extra_outputs)
    torch.nn.init.normal_(model.joiner.output.weight)
    torch.nn.init.normal_(model.predictor_projection.weight)
    return model.double().eval()


@torch.no_grad()
def log_prob(model: Transducer, labels: list[int]) -> float:
    """log p of labels, the predictor reading all of them at once, as in training."""
    predicted = model.predict(torch.tensor([labels], dtype=torch.long))[0, : len(labels)]
    logits = model.joiner(torch.zeros_like(predicted), predicted)
    logits[:, 0] = logits[:, 6:] = -math.inf
    return float(logits.log_softmax(-1)[range(len(labels)), labels].sum())


@pytest.mark.parametrize("context_size", [1, 2, 3])
def test_it_is_subtracted_along_a_string(context_size):
    model = random_model(context_size)
    scorer = internal_lm_scorer(model, 0.3)
    for seed in range(20):
        labels = torch.randint(1, 6, (seed,), generator=torch.Generator().manual_seed(seed)).tolist()
        assert total(scorer, labels) == pytest.approx(-0.3 * log_prob(model, labels), rel=1e-5, abs=1e-6)


def test_durations_and_big_blanks_are_no_labels():
    model = random_model(2, extra_outputs=3)
    assert total(internal_lm_scorer(model, 0.3), [1, 5]) == pytest.approx(-0.3 * log_prob(model, [1, 5]), rel=1e-5)


def test_probabilities_sum_to_one_without_the_blank():
    model = random_model(2)
    automaton = InternalLanguageModel(model)
    with torch.no_grad():
        scores, final = automaton.weights([automaton.start, (3, 4), (0, 2)])
    torch.testing.assert_close(scores[:, 1:].exp().sum(1), torch.ones(3))
    assert not scores[:, 0].any()
    assert not final.any()


def test_states_are_the_predictors_contexts():
    automaton = InternalLanguageModel(random_model(3))
    assert automaton.start == (-1, -1, 0)
    assert automaton.follow(automaton.start, 5) == (-1, 0, 5)


def test_weights_of_the_model_take_no_part_in_a_gradient():
    scorer = internal_lm_scorer(random_model(2), 1.0)
    state = scorer.advance(scorer.start(2), torch.tensor([1, 2]))
    assert not scorer.scores(state).requires_grad
