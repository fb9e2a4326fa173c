"""Greedy search: the likeliest arc of every node, all utterances of a batch in step."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.config import DecodeOptions
from asr.decode.search import Hypothesis
from asr.models.transducer import Transducer


class GreedySearch:
    """Follows the likeliest arc from node to node, with at most `max_symbols_per_frame` labels a frame."""

    def __init__(self, model: Transducer, max_symbols_per_frame: int) -> None:
        self.model = model
        self.max_symbols_per_frame = max_symbols_per_frame

    @torch.inference_mode()
    def __call__(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> list[Hypothesis]:
        """See `Search`."""
        batch, frames, _ = encoder_out_BTJ.shape
        context = self.model.predictor.start(batch, encoder_out_BTJ.device)
        predicted = self.model.predict_next(context)
        score = torch.zeros(batch, device=encoder_out_BTJ.device)
        emitted: list[list[tuple[int, int]]] = [[] for _ in range(batch)]
        for t in range(frames):
            reading = t < frames_B
            for _ in range(self.max_symbols_per_frame):
                best, token = self.model.joiner(encoder_out_BTJ[:, t], predicted).log_softmax(-1).max(-1)
                score += torch.where(reading, best, 0.0)
                reading = reading & (token != 0)
                rows = reading.nonzero()[:, 0]
                if not len(rows):
                    break
                for row, label in zip(rows.tolist(), token[rows].tolist()):
                    emitted[row].append((label, t))
                context[rows] = torch.cat((context[rows, 1:], token[rows, None]), dim=1)
                predicted[rows] = self.model.predict_next(context[rows])
        return [
            Hypothesis([label for label, _ in path], [t for _, t in path], s)
            for path, s in zip(emitted, score.tolist())
        ]


def make_search(options: DecodeOptions, model: Transducer, topology: str) -> GreedySearch:
    """The search that `conf/decode` describes, for a model trained with `topology`."""
    limit = options.max_symbols_per_frame if topology == "regular" else 1
    return {"greedy": GreedySearch}[options.name](model, limit)
