"""Beam search: the most probable label sequences, each with the sum of its alignments."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from asr.arcs.base import ArcSet
from asr.arcs.standard import standard_arcs
from asr.decode.scorer import LabelScorer, ScorerSum
from asr.decode.search import Hypothesis, Session, with_blank_penalty
from asr.models.transducer import Transducer


@dataclass(frozen=True)
class Beam:
    """K hypotheses of each of B utterances: each a sequence of labels, wherever its alignments have come to.

    score_BKW: log-probability, nats, of the alignments that stand at the frame to be read, at the next, and so on; −inf
    where there is none. added_BK: what a scorer adds to it.
    identity_BK: a number for the sequence of labels. link_BK: the last label's place in the `History`, −1 at first.
    context_BKC: the last labels. predicted_BKJ: the predictor's output for them. state_BKS: the scorer's state.
    """

    score_BKW: Tensor
    added_BK: Tensor
    identity_BK: Tensor
    link_BK: Tensor
    context_BKC: Tensor
    predicted_BKJ: Tensor
    state_BKS: Tensor

    @property
    def total_BK(self) -> Tensor:
        """What hypotheses are ranked by: the sum over their alignments, and what is added."""
        return self.score_BKW.logsumexp(2) + self.added_BK

    def take(self, index_BN: Tensor) -> Beam:
        """The hypotheses `index_BN` of each utterance."""
        return Beam(*(taken(values, index_BN) for values in vars(self).values()))

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
        return [torch.cat(values).cpu().tolist() for values in zip(*self.chunks)] if self.chunks else [[]] * 4


@dataclass(frozen=True)
class Weights:
    """Log-weights of what leaves the nodes of B×K hypotheses in a frame.

    label_BKV: each label, −inf in the blank's place. moves_BKE: arcs with a label, but for the label itself, by the
    frames that they advance, 0 to E − 1; −inf where there is no such arc. blanks_BKE: those without a label.
    """

    label_BKV: Tensor
    moves_BKE: Tensor
    blanks_BKE: Tensor


class BeamSearch:
    """Follows the `beam` best hypotheses of each utterance; those that come to the same labels are one, and their
    probabilities add up. With a beam as wide as there are hypotheses it finds the most probable label sequence.

    Frame by frame (Saon et al., ICASSP 2020, algorithm 1, with the sum over alignments): where a label may stay in its
    frame, up to `max_symbols_per_frame` of them. What an arc leads beyond the next frame waits there, and is added to
    what else comes to the same labels and frame. An alignment ends where it passes the end of the utterance.

    scorers: add to the log-probabilities of labels, see `asr.decode.scorer`. blank_penalty: see `with_blank_penalty`.
    margin: an alignment that is more than so many nats below the best one, with what is added, is given up.
    as_icefall: as its modified beam search, and sherpa-onnx's: of several alignments to the same labels each takes the
    place of a hypothesis in a frame before they are one, and at the end the score per label decides, the context before
    the first label included. Here they are one first, and the score decides, so that fewer hypotheses are given up.
    """

    def __init__(
        self,
        model: Transducer,
        beam: int,
        arcs: ArcSet | None = None,
        max_symbols_per_frame: int = 1,
        scorers: Sequence[LabelScorer] = (),
        blank_penalty: float = 0.0,
        margin: float = math.inf,
        as_icefall: bool = False,
    ) -> None:
        self.model, self.beam, self.arcs = model, beam, arcs or standard_arcs()
        self.margin, self.as_icefall = margin, as_icefall
        self.device = model.joiner.output.weight.device
        self.joiner = with_blank_penalty(model.joiner, self.arcs, blank_penalty)
        self.scorer = ScorerSum(scorers, self.device)
        self.max_symbols_per_frame = max_symbols_per_frame
        self.labels_stay = (0, 1) in self.arcs.moves
        self.frames_A, self.emits_A = torch.tensor(self.arcs.moves).T.to(self.device)
        self.furthest = int(self.frames_A.max())

    def begin(self, batch: int) -> Session:
        """See `Search`."""
        self.scorer = self.scorer.renewed()
        return BeamSession(copy.copy(self), batch)  # which keeps this scorer

    def start(self, batch: int) -> Beam:
        """One hypothesis for each utterance, without labels."""
        context = self.model.predictor.start(batch, self.device)
        predicted = self.model.predict_next(context)
        score = predicted.new_full((batch, 1, self.furthest), -math.inf)
        score[..., 0] = 0
        nothing = torch.zeros(batch, 1, dtype=torch.long, device=self.device)
        state = self.scorer.start(batch)[:, None]
        return Beam(
            score, predicted.new_zeros(batch, 1), nothing, nothing - 1, context[:, None], predicted[:, None], state
        )

    def read_frame(self, beam: Beam, encoded_BJ: Tensor, frame: Tensor, history: History) -> Beam:
        """The hypotheses once a frame has been read. frame: (B,), its number, for the history."""
        here = replace(beam, score_BKW=torch.nn.functional.pad(beam.score_BKW, (0, 1), value=-math.inf))
        weights = self.weights(here, encoded_BJ)
        left = [after_blank(here, weights)]
        extended = self.extend(here, weights, frame, history, left)
        if not self.labels_stay:
            return self.refresh(self.merge([*left, gone_on(extended)]))
        for symbols in range(1, self.max_symbols_per_frame + 1):
            extended = self.refresh(extended)
            weights = self.weights(extended, encoded_BJ)
            left.append(after_blank(extended, weights))
            if symbols < self.max_symbols_per_frame:
                extended = self.extend(extended, weights, frame, history, left)
        return self.merge(left)

    def weights(self, beam: Beam, encoded_BJ: Tensor) -> Weights:
        """What leaves the hypotheses' nodes in a frame."""
        encoded_BKJ = encoded_BJ[:, None].expand_as(beam.predicted_BKJ)
        logits = self.joiner(encoded_BKJ.flatten(0, 1), beam.predicted_BKJ.flatten(0, 1))
        label_NV, arc_AN = self.arcs.by_label(logits)
        by_move = arc_AN.new_full((2, self.furthest + 1, len(logits)), -math.inf)
        by_move[self.emits_A, self.frames_A] = arc_AN
        blanks_BKE, moves_BKE = by_move.transpose(1, 2).reshape(2, *beam.added_BK.shape, -1)
        label_BKV = label_NV[:, : self.model.vocab_size].view(*beam.added_BK.shape, -1)
        label_BKV[..., 0] = -math.inf  # a blank is no label
        return Weights(label_BKV, moves_BKE, blanks_BKE)

    def extend(self, beam: Beam, weights: Weights, frame: Tensor, history: History, left: list[Beam]) -> Beam:
        """The best hypotheses with one more label, of those in the frame; `left` are those that have left it. Their
        predictor's output and scorer's state are yet to follow.
        """
        scores = self.scorer.scores(beam.state_BKS.flatten(0, 1)).view(*beam.added_BK.shape, -1)
        added_BKV = beam.added_BK[..., None] + scores.expand_as(weights.label_BKV)
        onward_BK = weights.moves_BKE.logsumexp(2)
        score_BKV = (beam.score_BKW[..., 0] + onward_BK)[..., None] + weights.label_BKV
        _, index = (score_BKV + added_BKV).flatten(1).topk(min(self.beam, score_BKV[0].numel()))
        source, token = index // score_BKV.shape[2], index % score_BKV.shape[2]
        parent, moves_BNE = beam.take(source), taken(weights.moves_BKE, source)
        label = weights.label_BKV.flatten(1).gather(1, index)
        log_prob = label + onward_BK.gather(1, source)
        extended = replace(
            parent,
            score_BKW=(parent.score_BKW[..., 0] + label)[..., None] + moves_BNE,
            added_BK=added_BKV.flatten(1).gather(1, index),
            identity_BK=extended_identity(parent.identity_BK, token),
            link_BK=history.add(parent.link_BK, token, frame[:, None].expand_as(token), log_prob),
            context_BKC=torch.cat((parent.context_BKC[..., 1:], token[..., None]), dim=2),
            # NaN says that it is out of date.
            predicted_BKJ=torch.full_like(parent.predicted_BKJ, math.nan),
        )
        return self.within_margin(extended, left)

    def refresh(self, beam: Beam) -> Beam:
        """Bring the predictor's output and the scorer's state of extended hypotheses up to date."""
        new_BK = beam.predicted_BKJ[..., 0].isnan()  # all are computed: which they are is not waited for
        label_BK = beam.context_BKC[..., -1].where(new_BK, 0)
        predicted_NJ = self.model.predict_next(beam.context_BKC.flatten(0, 1))
        state_NS = self.scorer.advance(beam.state_BKS.flatten(0, 1), label_BK.flatten())
        return replace(
            beam,
            predicted_BKJ=predicted_NJ.view_as(beam.predicted_BKJ),
            state_BKS=state_NS.view_as(beam.state_BKS),
        )

    def merge(self, beams: list[Beam]) -> Beam:
        """The best hypotheses of several beams; those of the same labels are one, with the path of the likelier."""
        joined = Beam(*(torch.cat(values, dim=1) for values in zip(*(vars(beam).values() for beam in beams))))
        if self.as_icefall:
            joined = self.best(joined)
        same_BMM = joined.identity_BK[:, :, None] == joined.identity_BK[:, None, :]
        each_BMM = joined.score_BKW.logsumexp(2)[:, None].masked_fill(~same_BMM, -math.inf)
        first_BM = each_BMM.argmax(2) == torch.arange(each_BMM.shape[1], device=self.device)
        scores_BMMW = joined.score_BKW[:, None].masked_fill(~same_BMM[..., None], -math.inf)
        joined = replace(joined, score_BKW=scores_BMMW.logsumexp(2).masked_fill(~first_BM[..., None], -math.inf))
        return self.within_margin(self.best(joined))

    def within_margin(self, beam: Beam, others: Sequence[Beam] = ()) -> Beam:
        """A beam without the alignments that are too far below the best one, of others included."""
        if self.margin == math.inf:
            return beam
        scores = [one.score_BKW + one.added_BK[..., None] for one in (beam, *others)]
        best_B = torch.stack([score_BKW.amax((1, 2)) for score_BKW in scores]).amax(0)
        below_BKW = scores[0] < (best_B - self.margin)[:, None, None]
        return replace(beam, score_BKW=beam.score_BKW.masked_fill(below_BKW, -math.inf))

    def best(self, beam: Beam) -> Beam:
        """The best hypotheses of a beam."""
        return beam.take(beam.total_BK.topk(min(self.beam, beam.total_BK.shape[1])).indices)


def after_blank(beam: Beam, weights: Weights) -> Beam:
    """The hypotheses beyond the frame, once what stood in it has taken a blank."""
    blank_BKW = beam.score_BKW[..., :1] + weights.blanks_BKE[..., 1:]
    return replace(beam, score_BKW=torch.logaddexp(beam.score_BKW[..., 1:], blank_BKW))


def gone_on(beam: Beam) -> Beam:
    """The hypotheses beyond the frame, of which none stands in it."""
    return replace(beam, score_BKW=beam.score_BKW[..., 1:])


def taken(values_BK: Tensor, index_BN: Tensor) -> Tensor:
    """The values `index_BN` of each utterance."""
    return values_BK[torch.arange(len(index_BN), device=index_BN.device)[:, None], index_BN]


def extended_identity(identity: Tensor, token: Tensor) -> Tensor:
    """A number for a sequence of labels and one more: a 64-bit hash, so that two sequences never meet in practice."""
    mixed = (identity ^ (identity >> 29)) * 0x1B873593CC9E2D51 + (token + 1) * 0x2545F4914F6CDD1D
    return mixed ^ (mixed >> 32)


class BeamSession:
    """A beam search of B utterances under way. with_node: frames at which a hypothesis stood, of all of them."""

    def __init__(self, search: BeamSearch, batch: int) -> None:
        self.search, self.beam, self.history = search, search.start(batch), History()
        self.read_B = torch.zeros(batch, dtype=torch.long, device=self.beam.link_BK.device)
        self.with_node = self.read_B.sum()

    @torch.inference_mode()
    def read(self, encoder_out_BTJ: Tensor, frames_B: Tensor) -> None:
        """See `Session`."""
        longest_first_B = frames_B.argsort(descending=True)
        everyone_B = torch.arange(len(frames_B), device=frames_B.device)
        lengths = frames_B.cpu().tolist()  # all that is waited for but for scorers
        for t in range(max(lengths)):
            count = sum(length > t for length in lengths)
            rows = longest_first_B[:count] if count < len(lengths) else everyone_B
            self.read_frame(encoder_out_BTJ[rows, t], rows)

    def read_frame(self, encoded: Tensor, rows: Tensor) -> None:
        """Read one frame of the utterances `rows`."""
        everyone = len(rows) == len(self.read_B)
        part = self.beam if everyone else self.beam.rows(rows)
        self.with_node = self.with_node + (part.score_BKW[..., 0] > -math.inf).any(1).sum()
        part = self.search.read_frame(part, encoded, self.read_B[rows], self.history)
        self.beam = part if everyone else widened(self.beam, part.added_BK.shape[1]).put(rows, part)
        self.read_B[rows] += 1

    def best(self) -> list[list[Hypothesis]]:
        """See `Session`."""
        beam, columns = self.beam, self.history.columns()
        final_BK = self.search.scorer.final(beam.state_BKS.flatten(0, 1)).view_as(beam.added_BK)
        total, order = (beam.total_BK + final_BK).sort(dim=1, descending=True)
        links = beam.link_BK.gather(1, order)
        rows = zip(links.cpu().tolist(), total.cpu().tolist())
        found = [[trace(link, columns, score) for link, score in zip(*row) if score > -math.inf] for row in rows]
        return [self.ordered(hypotheses) or [Hypothesis([], [], math.nan, [])] for hypotheses in found]

    def ordered(self, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        """Hypotheses in order of their scores, by the score per label where that is asked for."""
        if not self.search.as_icefall:
            return hypotheses
        first = self.search.model.predictor.context_size
        return sorted(hypotheses, key=lambda one: one.score / (len(one.tokens) + first), reverse=True)

    def joined(self) -> int:
        """See `Session`."""
        return int(self.with_node)


def widened(beam: Beam, size: int) -> Beam:
    """The beam with places for `size` hypotheses; the new ones hold none."""
    have = beam.added_BK.shape[1]
    index = torch.arange(max(size, have), device=beam.link_BK.device).clamp(max=have - 1)
    wider = beam.take(index.expand(len(beam.added_BK), -1))
    wider.score_BKW[:, have:] = -math.inf
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
