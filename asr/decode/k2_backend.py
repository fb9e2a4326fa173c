"""k2's fast beam search, for users who have k2 (https://github.com/k2-fsa/k2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from asr.config import K2BeamOptions
from asr.decode.search import Hypothesis, Session
from asr.errors import InputError
from asr.models.transducer import Transducer

Function = TypeVar("Function", bound=Callable[..., Any])


def with_versions(function: Function) -> Function:
    """`function` outside of inference mode, whose tensors have no version; k2 asks those of every graph and lattice."""
    return torch.inference_mode(False)(torch.no_grad()(function))


class K2FastBeamSearch:
    """The best path of the lattice that k2's `RnntDecodingStreams` makes frame by frame, at most one label a frame.

    Kang et al., "Fast and parallel decoding for transducer", ICASSP 2023, section 3. The graph is k2's trivial one,
    in which any label may follow any other. Raises InputError where k2 is not installed.
    """

    @with_versions
    def __init__(self, model: Transducer, options: K2BeamOptions) -> None:
        try:
            import k2
        except ImportError as error:  # not installed, or built for another torch
            raise InputError(
                f"decode=k2_fast_beam: k2 is not installed (see https://k2-fsa.github.io/k2/installation for the wheel "
                f"of your torch; {error}); or use decode=beam"
            ) from None
        self.model, self.k2 = model, k2
        self.device = model.joiner.output.weight.device
        self.graph = k2.trivial_graph(model.vocab_size - 1, device=self.device)
        self.config = k2.RnntDecodingConfig(
            vocab_size=model.vocab_size,
            decoder_history_len=model.predictor.context_size,
            beam=options.beam,
            max_states=options.max_states,
            max_contexts=options.max_contexts,
        )

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        return K2Session(self, batch)


class K2Session:
    """A search of B utterances under way."""

    @with_versions
    def __init__(self, search: K2FastBeamSearch, batch: int) -> None:
        k2 = search.k2
        self.search, self.frames = search, torch.zeros(batch, dtype=torch.long)
        self.each = [k2.RnntDecodingStream(search.graph) for _ in range(batch)]
        self.streams: Any = None

    @with_versions
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`. An utterance that has ended stays ended: `best` leaves out what is beyond its frames."""
        steps = int(frames_B.max())
        if not steps:
            return
        self.streams = self.search.k2.RnntDecodingStreams(self.each, self.search.config)
        for t in range(steps):
            self.read_frame(self.streams, encoder_out_BTJ[:, t])
        self.streams.terminate_and_flush_to_streams()
        self.frames += frames_B.cpu()

    def read_frame(self, streams: Any, encoded_AJ: Tensor) -> None:
        """Extend the paths of some streams by one frame."""
        shape, contexts = streams.get_contexts()
        predicted = self.search.model.predict_next(with_padding(contexts.long()))
        row = shape.row_ids(1).long()
        logits = self.search.model.joiner(encoded_AJ[row], predicted)
        streams.advance(logits.log_softmax(1, dtype=torch.float32))

    @with_versions
    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        k2, frames = self.search.k2, self.frames.tolist()
        nothing = Hypothesis([], [], 0.0, [])
        if self.streams is None:
            return [[nothing] for _ in self.each]
        lattice = self.streams.format_output(frames)
        path = k2.shortest_path(lattice, use_double_scores=True)
        scores = path.get_tot_scores(use_double_scores=True, log_semiring=False).tolist()
        # k2 has no path, of score −inf, where there is no frame.
        return [[as_hypothesis(path[n], scores[n]) if frames[n] else nothing] for n in range(len(self.each))]

    def joined(self) -> int:
        """See `Session`."""
        return int(self.frames.sum())


def with_padding(context_NC: Tensor) -> Tensor:
    """k2's contexts, which begin with zeros, as those of `StatelessPredictor.start`: [−1, …, −1, 0]."""
    before_another = (context_NC[:, :-1] == 0) & (context_NC[:, 1:] == 0)
    return torch.cat((context_NC[:, :-1].masked_fill(before_another, -1), context_NC[:, -1:]), dim=1)


def as_hypothesis(path: Any, score: float) -> Hypothesis:
    """The labels of a linear lattice, one arc a frame; its last arc, of label −1, ends it."""
    arcs = [(label, t) for t, label in enumerate(path.labels.tolist()) if label > 0]
    probabilities = path.scores.exp().tolist()
    return Hypothesis(
        [label for label, _ in arcs], [t for _, t in arcs], score, [min(probabilities[t], 1.0) for _, t in arcs]
    )
