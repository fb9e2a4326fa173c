"""From a list of cuts to a padded batch. Stateless: a batch depends on its draw alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from lhotse.cut import Cut
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.config import SpecAugmentOptions
from asr.data.augment import keyed_random, spec_augment
from asr.data.batch import Batch, Position, Skipped
from asr.data.features import load_features, make_fbank
from asr.data.pieces import PieceSampler
from asr.data.reading import reading
from asr.data.scripts import joined
from asr.data.tokenizer import Tokenizer
from asr.data.waves import WaveAugmentation
from asr.data.words import aligned_words, in_order, piece_of_frames, token_frames
from asr.errors import InputError
from asr.frames import UNALIGNED, FrameTiming

EDGE_SECONDS = (
    0.1  # by which a supervision may end outside its cut: of rounding, and too short for a word to be missing
)


@dataclass(frozen=True)
class Draw:
    """What the sampler decided: which cuts, and for training where in the stream they stand.

    done: where the stream stands once the batches that other processes take beside this one are done, too; by
    default they are none. refused: utterances that the sampler left out since the draw before.
    """

    cuts: list[Cut]
    position: Position | None = None
    done: Position | None = None
    refused: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Augmentation:
    """SpecAugment for training, with the seed of the run."""

    options: SpecAugmentOptions
    seed: int

    def __call__(self, features: Tensor, epoch: int, cut_id: str, view: int = 0) -> Tensor:
        """Augmented copy of (T,F). view: of an utterance that the batch has several times."""
        key = "spec_augment", self.seed, epoch, cut_id, *[view] * (view > 0)
        return spec_augment(features, self.options, keyed_random(*key))


class SpeechDataset(torch.utils.data.Dataset[Batch]):
    """Loads features and labels of a draw. Without a tokenizer, as in decoding, there are no labels.

    timing: of the frames of the encoder that is to read them. views: how often each utterance comes in a training
    batch, with one SpecAugment or another (`Batch.views`). label_frames: fill `Batch.frame_labels`. sampler: draws the
    pieces of training transcripts, those of an utterance alike for all of its views.
    """

    def __init__(
        self,
        mel_bins: int,
        timing: FrameTiming,
        tokenizer: Tokenizer | None = None,
        augmentation: Augmentation | None = None,
        waves: WaveAugmentation | None = None,
        views: int = 1,
        label_frames: bool = False,
        sampler: PieceSampler | None = None,
    ) -> None:
        self.fbank = make_fbank(mel_bins)
        self.timing = timing
        self.tokenizer = tokenizer
        self.pieces = tokenizer.pieces if tokenizer else []
        self.augmentation = augmentation
        self.waves = waves
        self.views, self.label_frames = views, label_frames
        self.sampler = sampler

    def __getitem__(self, draw: Draw) -> Batch:
        """The batch of a draw; utterances that cannot be read are named in `Batch.skipped`."""
        cuts, loaded, skipped = [], [], [*draw.refused]
        for cut in draw.cuts:
            try:
                loaded.append(self.load(cut, draw.position))
                cuts.append(cut)
            except InputError as error:
                skipped.append(Skipped(cut.id, str(error)))
        views = [
            [self.augment(features, draw.position, cut.id, view) for cut, features in zip(cuts, loaded)]
            for view in range(self.views if draw.position else 1)
        ]
        labels = [self.labels_of(cut, features, draw.position) for cut, features in zip(cuts, loaded)]
        return self.collate(cuts, labels, views, skipped, draw.done or draw.position)

    def load(self, cut: Cut, position: Position | None) -> Tensor:
        """Features (T,F) of one cut, in training of augmented audio.

        Raises InputError where they cannot be read, or the transcript is not of what is heard.
        """
        check_supervisions(cut)
        with reading(cut.id):
            features = self.features_of(cut, position)
        if len(features) < self.timing.window:
            raise InputError(f"{len(features)} feature frames, the encoder needs {self.timing.window}")
        return features

    def features_of(self, cut: Cut, position: Position | None) -> Tensor:
        """Features (T,F) of one cut, however few."""
        alter = partial(self.waves, epoch=position.epoch, cut_id=cut.id) if self.waves and position else None
        with one_thread():
            return load_features(cut, self.fbank, alter)

    def augment(self, features: Tensor, position: Position | None, cut_id: str, view: int) -> Tensor:
        """A view of an utterance's features (T,F): augmented in training."""
        if self.augmentation is None or position is None:
            return features
        return self.augmentation(features, position.epoch, cut_id, view)

    def collate(
        self,
        cuts: list[Cut],
        labels: list[Tensor],
        views: list[list[Tensor]],
        skipped: list[Skipped],
        position: Position | None,
    ) -> Batch:
        """Pad and stack. labels: of each cut (U,); views: features of all cuts, one list after the other."""
        seconds = sum(cut.duration for cut in cuts)
        features = [one for view in views for one in view]
        cuts, labels = cuts * len(views), labels * len(views)
        texts = [transcript(cut) for cut in cuts]
        aligned = [self.align(cut, ids) for cut, ids in zip(cuts, labels)]
        said = [self.said(cut, ids, len(f)) for cut, ids, f in zip(cuts, labels, features)] if self.label_frames else []
        nothing = torch.zeros(0, 0, self.fbank.config.num_filters)
        return Batch(
            ids=[cut.id for cut in cuts],
            texts=texts,
            features=pad_sequence(features, batch_first=True) if features else nothing,
            feature_frames=torch.tensor([len(f) for f in features], dtype=torch.long),
            labels=pad_sequence(labels, batch_first=True) if labels else torch.zeros(0, 0, dtype=torch.long),
            label_lengths=torch.tensor([len(ids) for ids in labels], dtype=torch.long),
            alignment=pad_sequence(aligned, batch_first=True) if labels else None,
            frame_labels=pad_sequence(said, batch_first=True, padding_value=UNALIGNED) if said else None,
            words=[aligned_words(cut) for cut in cuts],
            seconds=seconds,
            position=position,
            views=len(views),
            skipped=skipped,
        )

    def labels_of(self, cut: Cut, features: Tensor, position: Position | None) -> Tensor:
        """Token ids (U,) of a cut's transcript; drawn in training, where they are to be and there are frames enough."""
        text = transcript(cut)
        if self.sampler is None or position is None:
            return torch.tensor(self.encode(text), dtype=torch.long)
        frames = self.timing.length(len(features))
        return torch.tensor(self.sampler(text, position.epoch, cut.id, frames), dtype=torch.long)

    def align(self, cut: Cut, ids: Tensor) -> Tensor:
        """Frame after subsampling of each label (U,); UNALIGNED where unknown."""
        pieces = [self.pieces[token] for token in ids.tolist()]
        return torch.tensor(token_frames(cut, pieces, self.timing), dtype=torch.long)

    def said(self, cut: Cut, ids: Tensor, feature_frames: int) -> Tensor:
        """The label said in each frame after subsampling (T',), 0 between words; UNALIGNED where unknown."""
        pieces, frames = [self.pieces[token] for token in ids.tolist()], self.timing.length(feature_frames)
        places = torch.tensor(piece_of_frames(cut, pieces, self.timing, frames), dtype=torch.long)
        by_place = torch.cat((ids, ids.new_tensor([0, UNALIGNED])))  # the last two are BETWEEN and UNALIGNED
        return by_place[places]

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript; none without a tokenizer."""
        return self.tokenizer.encode(text) if self.tokenizer else []


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, as workers do: resampling rounds differently in several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_supervisions(cut: Cut) -> None:
    """Raise InputError where a cut has text that was said before or after it: a window of a recording, for example."""
    for supervision in cut.supervisions:
        begin, end = supervision.start, supervision.end
        if supervision.text and not -EDGE_SECONDS <= begin <= end <= cut.duration + EDGE_SECONDS:
            raise InputError(
                f"its supervision {supervision.id} lasts from {begin:.2f} to {end:.2f} s, the cut from 0 to "
                f"{cut.duration:.2f} s: cut where supervisions end, as Lhotse's trim_to_supervisions does"
            )


def transcript(cut: Cut) -> str:
    """The text of all supervisions of a cut in order of time, white space collapsed; "" if there is none.

    Where one ends or begins in a script without blanks, none comes between.
    """
    texts = (" ".join(s.text.split()) for s in in_order(cut) if s.text)
    return joined([text for text in texts if text])
