"""Encoder, predictor and joiner in one container."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from torch import Tensor, nn

from asr.config import ModelOptions
from asr.errors import InputError
from asr.frames import FrameTiming
from asr.initialize import initialize, quieten
from asr.models.conformer import Conformer, EncoderState
from asr.models.joiner import Joiner
from asr.models.predictor import StatelessPredictor
from asr.models.subsampling import frame_timing

FLOAT_BYTES = 4
MOST_SHOWN = 200  # characters of what is wrong with weights
ENDS = "encoder_projection.weight", "predictor_projection.weight"  # of which each is as wide as two parts


class Transducer(nn.Module):
    """A neural transducer (Graves, 2012). Knows no loss: a loss takes what `encode` and `predict` return.

    extra_outputs: of the joiner, after those of the vocabulary; what they mean is for the arcs of the loss to say.
    """

    def __init__(self, options: ModelOptions, vocab_size: int, extra_outputs: int = 0) -> None:
        super().__init__()
        check_model(options)
        self.vocab_size = vocab_size
        self.encoder = Conformer(options)
        self.encoder_projection = nn.Linear(options.encoder_dim, options.joiner_dim)
        self.predictor = StatelessPredictor(
            vocab_size, options.predictor_dim, options.context_size, options.dropout, options.context_dropout
        )
        self.predictor_projection = nn.Linear(options.predictor_dim, options.joiner_dim)
        initialize(self)
        quieten(self.encoder.branch_outputs())
        self.joiner = Joiner(options.joiner_dim, vocab_size + extra_outputs)

    @property
    def timing(self) -> FrameTiming:
        """How the frames that `encode` gives lie in time."""
        return self.encoder.timing

    def encode(self, features_BTF: Tensor, lengths_B: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Filterbanks and their frames → (B,T',J) and frames after subsampling (B,). chunk: see `Conformer`."""
        encoded, lengths_B = self.encoder(features_BTF, lengths_B, chunk)
        return self.encoder_projection(encoded), lengths_B

    def encode_chunk(
        self, features_BTF: Tensor, lengths_B: Tensor, state: EncoderState | None
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """`Conformer.forward_chunk`, projected to (B,T',J)."""
        encoded, lengths_B, state = self.encoder.forward_chunk(features_BTF, lengths_B, state)
        return self.encoder_projection(encoded), lengths_B, state

    def predict(self, labels_BU: Tensor) -> Tensor:
        """Known labels (B,U) → (B,U+1,J), one row per label position."""
        return self.predictor_projection(self.predictor.positions(labels_BU))

    def predict_next(self, context_BC: Tensor) -> Tensor:
        """The last `context_size` labels (B,C) → (B,J), for a search."""
        return self.predictor_projection(self.predictor(context_BC))[:, 0]

    def forward(self, features_BTF: Tensor, lengths_B: Tensor, labels_BU: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a loss needs: encoder output (B,T',J), its frames (B,), predictor output (B,U+1,J).

        Lengths and labels may still be on the CPU; the frames are where the lengths are.
        """
        device = features_BTF.device
        encoded, _ = self.encode(features_BTF, lengths_B.to(device, non_blocking=True))
        predicted = self.predict(labels_BU.to(device, non_blocking=True))
        return encoded, self.timing.length(lengths_B).clamp(min=0), predicted


def check_model(options: ModelOptions) -> None:
    """Raise InputError where options contradict each other."""
    if options.encoder_dim % options.heads:
        raise InputError(
            f"model.heads={options.heads} does not divide model.encoder_dim={options.encoder_dim}: change one of them"
        )
    if options.kernel_size % 2 == 0:
        raise InputError(f"model.kernel_size={options.kernel_size} is even: give an odd number of frames")
    factor, window = options.subsampling, frame_timing(options.subsampling).window
    if factor & (factor - 1):
        raise InputError(f"model.subsampling={factor} is no power of two: give 2, 4, 8 or 16")
    if options.mel_bins < window:
        raise InputError(
            f"model.subsampling={factor} needs model.mel_bins={window} or more, and there are {options.mel_bins}"
        )
    require_room(options)
    if options.chunk_frames:
        chunks = f"model.chunk_frames={options.chunk_frames}"
        if not options.causal:
            raise InputError(f"{chunks}: convolutions must not see beyond a chunk: set model.causal=true")
        if options.right_context >= 0:
            raise InputError(f"{chunks}: a chunk is what attention sees of the future: leave out model.right_context")
        if options.normalize == "utterance":
            raise InputError(f"{chunks}: normalising by the utterance needs its end: use model.normalize=global")


def require_room(options: ModelOptions) -> None:
    """Raise InputError where the weights of feed-forward and attention alone would not fit into memory."""
    width = options.encoder_dim
    least = FLOAT_BYTES * options.layers * 4 * width * (options.feedforward_dim + width)
    if least > memory_bytes():
        sizes = f"model.layers={options.layers} of width {width}, with model.feedforward_dim={options.feedforward_dim}"
        raise InputError(f"{sizes}: over {least / 1e9:.0f} GB of weights, and there are {memory_bytes() / 1e9:.0f} GB")


def memory_bytes() -> float:
    """The memory of this machine; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # on Windows
        return math.inf


def fill(model: Transducer, weights: Mapping[str, Tensor], where: object) -> None:
    """Give a model the weights of a state dict. Raises InputError where they are another model's."""
    try:
        model.load_state_dict(dict(weights))
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()).partition(": ")[2][:MOST_SHOWN]
        raise InputError(f"{where}: not the weights of this model ({reason}); see to its config.yaml") from error


def require_fitting(options: ModelOptions, weights: Mapping[str, Tensor], where: object) -> None:
    """Raise InputError where a model with these options would be of another size than weights: before it is built."""
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layers.")}
    found = [len(layers), *(list(weights[name].shape) if name in weights else None for name in ENDS)]
    wanted = [options.layers, [options.joiner_dim, options.encoder_dim], [options.joiner_dim, options.predictor_dim]]
    for name, there, here in zip(("layers", *ENDS), found, wanted):
        if there != here:
            differs = f"{name}: {there}, not {here}"
            raise InputError(f"{where}: not the weights of this model ({differs}); see to its config.yaml")
