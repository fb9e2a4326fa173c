"""The internal language model of a transducer, to be subtracted where another one is added."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asr.decode.scorer import Tabulated
from asr.models.transducer import Transducer

Context = tuple[int, ...]


def internal_lm_scorer(model: Transducer, weight: float) -> Tabulated[Context]:
    """−weight · log p_ILM(label | last labels), on the model's device. The model must be in evaluation mode."""
    return Tabulated(InternalLanguageModel(model), -weight, next(model.parameters()).device)


class InternalLanguageModel:
    """What joiner and predictor say of a label when they hear nothing (Variani et al., ICASSP 2020).

    log p_ILM(y | context): log_softmax over the labels alone, without blanks and durations, of joiner(0,
    predictor(context)), as in internal language model estimation (Meng et al., SLT 2021). The encoder's side is 0 after
    its projection. The end of an utterance is no label of a transducer, so nothing is said of it. A state is a context
    of labels; see `asr.decode.scorer.Automaton`.
    """

    def __init__(self, model: Transducer) -> None:
        """`model`: a transducer with a stateless predictor."""
        self.model = model
        self.device = next(model.parameters()).device
        self.start: Context = tuple(model.predictor.start(1, self.device)[0].tolist())

    def follow(self, state: Context, label: int) -> Context:
        """The context, one label further."""
        return (*state[1:], label)

    def weights(self, states: Sequence[Context]) -> tuple[Tensor, Tensor]:
        """log p of every label (n,V); 0 for the end (n,)."""
        predicted_NJ = self.model.predict_next(torch.tensor(states, device=self.device))
        logits_NK = self.model.joiner(torch.zeros_like(predicted_NJ), predicted_NJ)
        labels_NV = logits_NK[:, 1 : self.model.vocab_size].float().log_softmax(-1)
        return torch.nn.functional.pad(labels_NV, (1, 0)), predicted_NJ.new_zeros(len(states))
