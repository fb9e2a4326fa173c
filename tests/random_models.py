"""Transducers with random weights, encoder output and a scorer for them, on which searches are checked."""

import torch
from small_model import small_options
from torch import Tensor

from asr.models.transducer import Transducer


def random_model(seed: int, vocab_size: int | None = None, extra_outputs: int = 0, **changes) -> Transducer:
    """A model in float64, so that no tie depends on the batch; blank is as likely as the labels together."""
    torch.manual_seed(seed)
    options = small_options(layers=1, context_size=1 + seed % 3, **changes)
    model = Transducer(options, vocab_size or 4 + seed % 3, extra_outputs)
    torch.nn.init.normal_(model.joiner.output.weight)
    torch.nn.init.normal_(model.predictor_projection.weight)
    model.joiner.output.bias.data[0] += 1.5
    return model.double().eval()


def random_encoded(seed: int, batch: int = 8, longest: int = 12) -> tuple[Tensor, Tensor]:
    """Encoder output (B,T,J), garbage beyond the frames (B,) included."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(1, longest + 1, (batch,), generator=generator)
    return 2 * torch.randn(batch, longest, 8, generator=generator, dtype=torch.float64), frames


class TableScorer:
    """Adds a number to each label, and at the end, that depend on how many labels there are."""

    def __init__(self, vocab_size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(100, vocab_size, generator=generator)
        self.table[:, 0] = 0
        self.ends = torch.randn(100, generator=generator)

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


class TableAutomaton:
    """A `TableScorer` as an automaton: a state is how many labels there are."""

    start = 0

    def __init__(self, scorer):
        self.scorer = scorer

    def follow(self, state, label):
        return state + 1

    def weights(self, states):
        return self.scorer.table[states], self.scorer.ends[states]


@torch.no_grad()
def outputs(model, kind, encoded_J, labels, blank_penalty, predicted=None):
    """What the joiner says of a node, `blank_penalty` nats taken off its blanks; the predictor is not asked again of
    labels that are in `predicted`, where it puts them.
    """
    predicted, labels = {} if predicted is None else predicted, tuple(labels)
    if labels not in predicted:
        predicted[labels] = model.predict(torch.tensor([labels], dtype=torch.long))[0, -1]
    z = model.joiner(encoded_J, predicted[labels])
    z[0] -= blank_penalty
    z[model.vocab_size :] -= blank_penalty * kind.startswith("multi_blank")
    return z
