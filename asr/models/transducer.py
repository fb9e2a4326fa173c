"""Encoder, predictor and joiner in one container."""

from __future__ import annotations

from torch import Tensor, nn

from asr.config import ModelOptions
from asr.errors import InputError
from asr.frames import FrameTiming
from asr.initialize import initialize, quieten
from asr.models.conformer import Conformer, EncoderState
from asr.models.joiner import Joiner
from asr.models.predictor import StatelessPredictor
from asr.models.subsampling import frame_timing


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
    if options.chunk_frames:
        chunks = f"model.chunk_frames={options.chunk_frames}"
        if not options.causal:
            raise InputError(f"{chunks}: convolutions must not see beyond a chunk: set model.causal=true")
        if options.right_context >= 0:
            raise InputError(f"{chunks}: a chunk is what attention sees of the future: leave out model.right_context")
        if options.normalize == "utterance":
            raise InputError(f"{chunks}: normalising by the utterance needs its end: use model.normalize=global")
