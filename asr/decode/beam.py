"""Beam search: the most probable label sequences, each with the sum of its alignments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from asr.decode.scorer import LabelScorer, ScorerSum
from asr.decode.search import Hypothesis, Session
from asr.models.transducer import Transducer


@dataclass(frozen=True)
class Beam:
    """K hypotheses of each of B utterances.

    score_BK: log-probability, nats; −inf where there is none. added_BK: what a scorer adds to it.
    identity_BK: a number for the sequence of labels. link_BK: the last label's place in the `History`, −1 at first.
    context_BKC: the last labels. predicted_BKJ: the predictor's output for them. state_BKS: the scorer's state.
    """

    score_BK: Tensor
    added_BK: Tensor
    identity_BK: Tensor
    link_BK: Tensor
    context_BKC: Tensor
    predicted_BKJ: Tensor
    state_BKS: Tensor

    def take(self, index_BN: Tensor) -> Beam:
        """The hypotheses `index_BN` of each utterance."""
        batch = torch.arange(len(index_BN), device=index_BN.device)[:, None]
        return Beam(*(values[batch, index_BN] for values in vars(self).values()))

    def rows(self, rows: Tensor) -> Beam:
        """The hypotheses of the utterances `rows`."""
        return Beam(*(values[rows] for values in vars(self).values()))

    def put(self, rows: Tensor, part: Beam) -> Beam:
        """This beam with `part` in place of the utterances `rows`."""
        pairs = zip(vars(self).values(), vars(part).values())
        return Beam(*(values.index_copy(0, rows, changed) for values, changed in pairs))


@dataclass
class History:
    """Every label that a hypothesis was ever extended by, as links to the one before.

    parent, token, frame, log_prob: chunks of values, to be put one after the other.
    """

    chunks: list[tuple[Tensor, ...]] = field(default_factory=list)
    size: int = 0

    def add(self, *labels: Tensor) -> Tensor:
        """Keep parent, token, frame and log-probability of labels of one shape; their places, of that shape."""
        places = torch.arange(self.size, self.size + labels[0].numel(), device=labels[0].device)
        self.chunks.append(tuple(values.flatten() for values in labels))
        self.size += len(places)
        return places.view_as(labels[0])

    def columns(self) -> list[list[float]]:
        """parent, token, frame and log-probability of all labels."""
        return [torch.cat(values).tolist() for values in zip(*self.chunks)] if self.chunks else [[]] * 4


class BeamSearch:
    """Follows the `beam` best hypotheses of each utterance; those that come to the same labels are one, and their
    probabilities add up. With a beam as wide as there are hypotheses it finds the most probable label sequence.

    regular: time-synchronous, up to `max_symbols_per_frame` labels a frame (Saon et al., ICASSP 2020, algorithm 1,
    with the sum over alignments). Otherwise at most one label a frame, in whose place there is no blank.

    scorers: add to the log-probabilities of labels, see `asr.decode.scorer`.
    """

    def __init__(
        self,
        model: Transducer,
        beam: int,
        topology: str,
        max_symbols_per_frame: int = 1,
        scorers: Sequence[LabelScorer] = (),
    ) -> None:
        self.model, self.beam = model, beam
        self.scorer = ScorerSum(scorers, model.joiner.output.weight.device)
        self.regular, self.max_symbols_per_frame = topology == "regular", max_symbols_per_frame

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        return BeamSession(self, batch)

    def start(self, batch: int) -> Beam:
        """One hypothesis for each utterance, without labels."""
        device = self.model.joiner.output.weight.device
        context = self.model.predictor.start(batch, device)
        predicted = self.model.predict_next(context)
        zero = predicted.new_zeros(batch, 1)
        nothing = torch.zeros(batch, 1, dtype=torch.long, device=device)
        state = self.scorer.start(batch)[:, None]
        return Beam(zero, zero, nothing, nothing - 1, context[:, None], predicted[:, None], state)

    def read_frame(self, beam: Beam, encoded_BJ: Tensor, frame: Tensor, history: History) -> Beam:
        """The hypotheses once a frame has been read. frame: (B,), its number, for the history."""
        log_probs = self.log_probs(beam, encoded_BJ)
        left = [after_blank(beam, log_probs)]
        extended = self.extend(beam, log_probs, frame, history)
        if not self.regular:
            return self.refresh(self.merge([*left, extended]))
        for symbols in range(1, self.max_symbols_per_frame + 1):
            extended = self.refresh(extended)
            log_probs = self.log_probs(extended, encoded_BJ)
            left.append(after_blank(extended, log_probs))
            if symbols < self.max_symbols_per_frame:
                extended = self.extend(extended, log_probs, frame, history)
        return self.merge(left)

    def log_probs(self, beam: Beam, encoded_BJ: Tensor) -> Tensor:
        """Log-probabilities (B,K,V) of all arcs."""
        encoded_BKJ = encoded_BJ[:, None].expand_as(beam.predicted_BKJ)
        logits = self.model.joiner(encoded_BKJ.flatten(0, 1), beam.predicted_BKJ.flatten(0, 1))
        return logits.log_softmax(1).view(*beam.score_BK.shape, -1)

    def extend(self, beam: Beam, log_probs_BKV: Tensor, frame: Tensor, history: History) -> Beam:
        """The best hypotheses with one more label. Their predictor's output and scorer's state are yet to follow."""
        scores = self.scorer.scores(beam.state_BKS.flatten(0, 1)).view(*beam.added_BK.shape, -1)
        added_BKV = beam.added_BK[..., None] + scores.expand_as(log_probs_BKV)
        score_BKV = beam.score_BK[..., None] + log_probs_BKV
        score_BKV[..., 0] = -math.inf  # a blank is no label
        _, index = (score_BKV + added_BKV).flatten(1).topk(min(self.beam, score_BKV[0].numel()))
        source, token = index // score_BKV.shape[2], index % score_BKV.shape[2]
        parent, log_prob = beam.take(source), log_probs_BKV.flatten(1).gather(1, index)
        return replace(
            parent,
            score_BK=score_BKV.flatten(1).gather(1, index),
            added_BK=added_BKV.flatten(1).gather(1, index),
            identity_BK=extended_identity(parent.identity_BK, token),
            link_BK=history.add(parent.link_BK, token, frame[:, None].expand_as(token), log_prob),
            context_BKC=torch.cat((parent.context_BKC[..., 1:], token[..., None]), dim=2),
            # NaN says that it is out of date.
            predicted_BKJ=torch.full_like(parent.predicted_BKJ, math.nan),
        )

    def refresh(self, beam: Beam) -> Beam:
        """Bring the predictor's output and the scorer's state of extended hypotheses up to date."""
        at = beam.predicted_BKJ[..., 0].isnan().nonzero(as_tuple=True)
        context = beam.context_BKC[at]
        predicted = beam.predicted_BKJ.index_put(at, self.model.predict_next(context))
        state = beam.state_BKS.index_put(at, self.scorer.advance(beam.state_BKS[at], context[:, -1]))
        return replace(beam, predicted_BKJ=predicted, state_BKS=state)

    def merge(self, beams: list[Beam]) -> Beam:
        """The best hypotheses of several beams; those of the same labels are one, with the path of the likelier."""
        joined = Beam(*(torch.cat(values, dim=1) for values in zip(*(vars(beam).values() for beam in beams))))
        same_BMM = joined.identity_BK[:, :, None] == joined.identity_BK[:, None, :]
        scores_BMM = joined.score_BK[:, None].masked_fill(~same_BMM, -math.inf)
        first = scores_BMM.argmax(2) == torch.arange(scores_BMM.shape[1], device=scores_BMM.device)
        joined = replace(joined, score_BK=scores_BMM.logsumexp(2).masked_fill(~first, -math.inf))
        total_BM = joined.score_BK + joined.added_BK
        return joined.take(total_BM.topk(min(self.beam, total_BM.shape[1])).indices)


def after_blank(beam: Beam, log_probs_BKV: Tensor) -> Beam:
    """The hypotheses once they have taken a blank."""
    return replace(beam, score_BK=beam.score_BK + log_probs_BKV[..., 0])


def extended_identity(identity: Tensor, token: Tensor) -> Tensor:
    """A number for a sequence of labels and one more: a 64-bit hash, so that two sequences never meet in practice."""
    mixed = (identity ^ (identity >> 29)) * 0x1B873593CC9E2D51 + (token + 1) * 0x2545F4914F6CDD1D
    return mixed ^ (mixed >> 32)


class BeamSession:
    """A beam search of B utterances under way."""

    def __init__(self, search: BeamSearch, batch: int) -> None:
        self.search, self.beam, self.history = search, search.start(batch), History()
        self.read_B = torch.zeros(batch, dtype=torch.long, device=self.beam.link_BK.device)

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        for t in range(int(frames_B.max())):
            (rows,) = (t < frames_B).nonzero(as_tuple=True)
            self.read_frame(encoder_out_BTJ[rows, t], rows)

    def read_frame(self, encoded: Tensor, rows: Tensor) -> None:
        """Read one frame of the utterances `rows`."""
        everyone = len(rows) == len(self.read_B)
        part = self.beam if everyone else self.beam.rows(rows)
        part = self.search.read_frame(part, encoded, self.read_B[rows], self.history)
        self.beam = part if everyone else widened(self.beam, part.score_BK.shape[1]).put(rows, part)
        self.read_B[rows] += 1

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        beam, columns = self.beam, self.history.columns()
        final_BK = self.search.scorer.final(beam.state_BKS.flatten(0, 1)).view_as(beam.score_BK)
        total, order = (beam.score_BK + beam.added_BK + final_BK).sort(dim=1, descending=True)
        links = beam.link_BK.gather(1, order)
        rows = zip(links.tolist(), total.tolist())
        found = [[trace(link, columns, score) for link, score in zip(*row) if score > -math.inf] for row in rows]
        return [hypotheses or [Hypothesis([], [], math.nan, [])] for hypotheses in found]


def widened(beam: Beam, size: int) -> Beam:
    """The beam with places for `size` hypotheses; the new ones hold none."""
    have = beam.score_BK.shape[1]
    index = torch.arange(max(size, have), device=beam.link_BK.device).clamp(max=have - 1)
    wider = beam.take(index.expand(len(beam.score_BK), -1))
    wider.score_BK[:, have:] = -math.inf
    return wider


def trace(link: int, columns: list[list[float]], score: float) -> Hypothesis:
    """The hypothesis that ends with the label at `link` of a history's columns."""
    parents, tokens, frames, log_probs = columns
    places = []
    while link >= 0:
        places.append(link)
        link = int(parents[link])
    places.reverse()
    return Hypothesis(
        [int(tokens[n]) for n in places],
        [int(frames[n]) for n in places],
        score,
        [min(math.exp(log_probs[n]), 1.0) for n in places],
    )
