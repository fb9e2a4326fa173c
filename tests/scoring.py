"""What a scorer adds along a string of labels, for tests of all kinds of scorers."""

from collections.abc import Sequence

import torch

from asr.decode.scorer import LabelScorer


def total(scorer: LabelScorer, labels: Sequence[int]) -> float:
    """Nats added to one hypothesis, label by label, and at its end."""
    state = scorer.start(1)
    added = 0.0
    for label in labels:
        added += float(scorer.scores(state)[0, label])
        state = scorer.advance(state, torch.tensor([label]))
    return added + float(scorer.final(state)[0])
