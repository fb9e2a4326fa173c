"""Whether exported files say what the model says: the same frames in, the same hidden states and labels out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from kaldialign import edit_distance
from torch import Tensor

from asr.data.batch import Batch
from asr.decode.search import Search, search_all
from asr.decode.stream import encode_in_chunks
from asr.errors import InputError
from asr.export.sherpa import UNKNOWN, Form, empty_caches
from asr.runs.trained import Trained

HIDDEN_TOLERANCE = 1e-4  # of encoder outputs, whose size is about 1
MOST_CHANGED = 0.02  # share of labels that int8 weights may change

Run = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Exported:
    """The parts of an export, as functions of tensors to tuples of tensors."""

    encoder: Run
    decoder: Run
    joiner: Run


@dataclass(frozen=True)
class Parity:
    """What a check found.

    hidden: largest difference of an encoder output. differing: utterances whose labels differ. errors: labels that
    differ, of so many.
    """

    utterances: int
    hidden: float
    differing: int
    errors: int
    labels: int

    def __add__(self, other: Parity) -> Parity:
        """What both found together."""
        return Parity(
            self.utterances + other.utterances,
            max(self.hidden, other.hidden),
            self.differing + other.differing,
            self.errors + other.errors,
            self.labels + other.labels,
        )

    def line(self) -> str:
        """All of it in words."""
        return (
            f"{self.utterances} utterances: encoder outputs differ by {self.hidden:.1e} at most, labels in "
            f"{self.differing} utterances ({self.errors} of {self.labels} labels)"
        )


def compare(exported: Exported, trained: Trained, search: Search, form: Form, batches: Iterable[Batch]) -> Parity:
    """Run both on the same features. search: the model's own, with one label a frame."""
    total = Parity(0, 0.0, 0, 0, 0)
    for batch in batches:
        for features_TF, frames in zip(batch.features, batch.feature_frames.tolist()):
            features_1TF = features_TF[None, :frames]
            total += compare_one(exported, trained, search, form, whole_chunks(features_1TF, form))
    if not total.utterances:
        raise InputError("cuts: none that the encoder can read, so nothing to check the export with")
    return total


def compare_one(exported: Exported, trained: Trained, search: Search, form: Form, features_1TF: Tensor) -> Parity:
    """Run both on an utterance."""
    wanted, found = reference(trained, form, features_1TF), encode(exported, trained, form, features_1TF)
    tokens = search_all(search, wanted, torch.tensor([wanted.shape[1]]))[0][0].tokens
    errors = edit_distance(tokens, greedy(exported, trained, found[0]))["total"]
    return Parity(1, float((wanted - found).abs().max()), int(errors > 0), errors, len(tokens))


@torch.inference_mode()
def reference(trained: Trained, form: Form, features_1TF: Tensor) -> Tensor:
    """The model's own encoder output (1,T',J)."""
    lengths = torch.tensor([features_1TF.shape[1]])
    if form.streaming:
        return torch.cat(
            [chunk for chunk, _ in encode_in_chunks(trained.model, features_1TF, lengths, form.chunk)], dim=1
        )
    return trained.model.encode(features_1TF, lengths, form.chunk)[0]


def encode(exported: Exported, trained: Trained, form: Form, features_1TF: Tensor) -> Tensor:
    """The exported encoder's output (1,T',J)."""
    if not form.streaming:
        return exported.encoder(features_1TF, torch.tensor([features_1TF.shape[1]]))[0]
    caches: Sequence[Tensor] = empty_caches(trained.config.model, form, 1)
    chunks = []
    for begin in range(0, features_1TF.shape[1] - form.timing.overlap, form.shift):
        window = features_1TF[:, begin : begin + form.feature_frames].contiguous()
        chunk, *caches = exported.encoder(window, *caches, torch.tensor([begin]))
        chunks.append(chunk)
    return torch.cat(chunks, dim=1)


def greedy(exported: Exported, trained: Trained, encoded_TJ: Tensor) -> list[int]:
    """Labels by the runtime's greedy search: at most one a frame, and `<unk>` is none."""
    tokenizer, model = trained.tokenizer, trained.model
    silent = {0} | {id_ for id_, piece in enumerate(tokenizer.pieces) if piece == UNKNOWN}
    context = model.predictor.start(1, torch.device("cpu"))
    tokens: list[int] = []
    (predicted,) = exported.decoder(context)
    for row in encoded_TJ:
        token = int(exported.joiner(row[None], predicted)[0].argmax())
        if token not in silent:
            tokens.append(token)
            context = torch.cat((context[:, 1:], torch.tensor([[token]])), dim=1)
            (predicted,) = exported.decoder(context)
    return tokens


def whole_chunks(features_BTF: Tensor, form: Form) -> Tensor:
    """Features with the last frame repeated until a stream's last chunk is whole; for other encoders as they are."""
    missing = -(features_BTF.shape[1] - form.timing.overlap) % form.shift if form.streaming else 0
    return torch.cat((features_BTF, features_BTF[:, -1:].expand(-1, missing, -1)), dim=1)
