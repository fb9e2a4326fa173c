"""Alignment by a transducer of ours: by the CTC head that was trained along, or by the transducer's own best path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import torch
from lhotse.cut import Cut
from torch import Tensor
from torchaudio.functional import forced_align

from asr.data.audio import loudness_of_features
from asr.data.batch import Batch, Skipped
from asr.data.ctm import Aligned
from asr.data.dataset import Draw, SpeechDataset, transcript
from asr.data.pauses import quiet_times
from asr.data.sampler import frames_needed
from asr.data.scripts import units_of_text
from asr.decode.words import word_times
from asr.device import enough_memory
from asr.errors import InputError
from asr.nodes.base import all_nodes
from asr.ops.joint.chunked import node_weights
from asr.ops.joint.reference import LossInputs
from asr.ops.lattice.paths import best_alignment
from asr.train.task import Task

LONGEST_SECONDS = 200.0  # of an utterance: attention and the lattice need memory as its square
PIECE_SECONDS = 30.0  # in which CTC hears what is longer
MOST_STATES = 2**30  # frames × states of CTC that `forced_align` takes: it counts them in 32 bits, and crashes


class TrainedAligner:
    """Forced alignment with a model, one utterance at a time, so that no batch can change a result.

    kind: "ctc" (the CTC head; Graves et al., ICML 2006) or "transducer" (the lattice with max for sum).
    """

    def __init__(self, task: Task, dataset: SpeechDataset, kind: str) -> None:
        if kind == "ctc" and task.objective.ctc is None:
            raise InputError("aligner=ctc: the run was trained with train.ctc_weight=0; use aligner=transducer")
        self.task, self.dataset, self.kind = task, dataset, kind
        self.frames_of_labels = {"ctc": self.by_ctc, "transducer": self.by_lattice}[kind]
        self.device = next(task.parameters()).device

    def __call__(self, cuts: Sequence[Cut]) -> list[Aligned | Skipped]:
        """See `Aligner`."""
        return [self.align(cut) for cut in cuts]

    @torch.inference_mode()
    def align(self, cut: Cut) -> Aligned | Skipped:
        """The words of one cut, or why they could not be found."""
        if not transcript(cut):
            return Aligned(cut.id, [])
        if cut.duration > LONGEST_SECONDS and self.kind != "ctc":
            return Skipped(
                cut.id, f"lasts {cut.duration:.1f} s, more than {LONGEST_SECONDS:g} s: cut it where it is quiet"
            )
        try:
            batch = self.dataset[Draw([cut])]
        except InputError as error:  # a transcript that the tokenizer cannot spell
            return Skipped(cut.id, str(error))
        if batch.skipped:
            return batch.skipped[0]
        try:
            with enough_memory("", cut.duration):
                frames = self.frames_of_labels(batch.to(self.device))
        except InputError as error:
            return Skipped(cut.id, str(error))
        pieces = [self.dataset.pieces[label] for label in batch.labels[0].tolist()]
        timing = self.dataset.timing
        spans = [(timing.middle(first), timing.middle(last)) for first, last in frames]
        return Aligned(cut.id, word_times(units_of_text(batch.texts[0]), pieces, spans, cut.duration))

    def by_ctc(self, batch: Batch) -> list[tuple[int, int]]:
        """First and last frame of each label on the best path of CTC."""
        frames, labels = self.dataset.timing.length(batch.features.shape[1]), int(batch.label_lengths[0])
        check_fit(batch, frames_needed(batch.labels[0].tolist()), frames)
        if frames * (2 * labels + 1) > MOST_STATES:
            raise InputError(f"{labels} labels in {batch.seconds:.0f} s are too many to be aligned at once: divide it")
        log_probs = torch.cat(list(self.ctc_log_probs(batch)), dim=1)
        labels_BU, lengths = batch.labels.to(self.device), (torch.tensor([frames]), batch.label_lengths)
        path, _ = forced_align(log_probs, labels_BU, *lengths)
        return runs(path[0])

    def ctc_log_probs(self, batch: Batch) -> Iterator[Tensor]:
        """Those (1,T,V) of an utterance, or of its pieces one after the other: it is cut where it is quiet."""
        assert self.task.objective.ctc is not None
        timing, total = self.dataset.timing, self.dataset.timing.length(batch.features.shape[1])
        cuts = []
        if batch.seconds > LONGEST_SECONDS:
            cuts = quiet_times(loudness_of_features(batch.features[0].cpu().numpy()), PIECE_SECONDS)
        for first, last in pairwise([0, *(timing.at(seconds) for seconds in cuts), total]):
            if first >= last:
                continue
            begin = timing.factor * first
            window = batch.features[:, begin : begin + timing.needed(last - first)]
            encoded, _ = self.task.model.encode(window, torch.tensor([window.shape[1]], device=self.device))
            yield self.task.objective.ctc.log_probs(encoded)

    def by_lattice(self, batch: Batch) -> list[tuple[int, int]]:
        """The frame that emits each label on the transducer's likeliest path, twice."""
        encoded, frames_B, predicted = self.task.model(batch.features, batch.feature_frames, batch.labels)
        rules = self.task.objective.transducer.rules
        check_fit(batch, 1 if rules.topology == "regular" else int(batch.label_lengths[0]), int(frames_B[0]))
        targets = batch.labels.to(self.device), batch.label_lengths
        inputs = LossInputs(self.task.model.joiner, encoded, frames_B, predicted, *targets)
        nodes = all_nodes(frames_B, batch.label_lengths)
        frames = best_alignment(nodes, node_weights(inputs, nodes, rules.arcs), rules.arcs, rules.edges)[0].tolist()
        return list(zip(frames, frames))


def check_fit(batch: Batch, needed: int, frames: int) -> None:
    """Raise InputError where an utterance's labels need more frames than it has."""
    if needed > frames:
        raise InputError(f"{int(batch.label_lengths[0])} labels need {needed} frames, the encoder gives {frames}")


def runs(path_T: Tensor) -> list[tuple[int, int]]:
    """First and last frame of each label of a CTC path; 0 is blank."""
    found, frame = [], 0
    for label, group in groupby(path_T.tolist()):
        count = len(list(group))
        if label:
            found.append((frame, frame + count - 1))
        frame += count
    return found
