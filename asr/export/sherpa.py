"""The contract of sherpa-onnx (2.0): what its transducer models take, give, and say of themselves.

    offline encoder    x (N,T,F), x_lens (N) → encoder_out (N,T',J), encoder_out_lens (N)
    online encoder     x (N,4c+3,F), cached_attn (L,left,N,D), cached_conv (L,K−1,N,D), processed_lens (N) →
                       encoder_out (N,c,J), and the two caches
    decoder            y (N,context) → decoder_out (N,J)
    joiner             encoder_out (N,J), decoder_out (N,J) → logit (N,V)

Inputs are taken by position; numbers of frames and labels are int64. Both encoders say `model_type=conformer`, which
to the runtime means caches of this shape. Blank is 0, the context before the first label [−1, …, −1, 0], and a frame
emits at most one label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from asr.config import LossOptions, ModelOptions
from asr.data.tokenizer import Tokenizer
from asr.errors import InputError
from asr.export.modules import Decoder, Joiner, OfflineEncoder, StreamingEncoder
from asr.frames import FrameTiming
from asr.losses.rules import make_rules
from asr.models.transducer import Transducer
from asr.runs.trained import Trained

UNKNOWN = "<unk>"  # that the runtime takes for a blank, by this name
EXAMPLE_FRAMES = 64  # of the input that a module is traced with; any other length will do as well
FACTOR = 4  # feature frames of an encoder frame, of 10 ms, in its times and sizes
SUPPORTED = ("standard", "hat")  # arcs whose search is the runtime's


@dataclass(frozen=True)
class Part:
    """A module, an input to trace it with, and how its file calls what goes in and comes out.

    dynamic: names of the axes of each input that may have any size. metadata: what the runtime reads in the file.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic: tuple[dict[int, str], ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """How an encoder is exported.

    chunk: frames, after subsampling, of the chunks that attention works in; 0: none. left: frames that it looks back
    in a stream. streaming: whether the encoder is one that reads chunk by chunk. timing: of its frames.
    """

    chunk: int
    left: int
    streaming: bool
    timing: FrameTiming

    @property
    def feature_frames(self) -> int:
        """That a chunk of a stream takes, those shared with the next included."""
        return self.timing.needed(self.chunk)

    @property
    def shift(self) -> int:
        """Feature frames from one chunk to the next."""
        return self.timing.factor * self.chunk


def check_model(loss: LossOptions, timing: FrameTiming) -> None:
    """Raise InputError where the runtime's searches do not know the model's arcs, or its times the model's frames."""
    if timing.factor != FACTOR:
        raise InputError(f"model.subsampling={timing.factor}: sherpa-onnx knows {FACTOR} only; use format=torch")
    if loss.arcs.name not in SUPPORTED:
        raise InputError(
            f"loss.arcs.name={loss.arcs.name}: sherpa-onnx has no search for these arcs; use format=torch, or a model "
            f"with loss/arcs={' or '.join(SUPPORTED)}"
        )


def make_parts(trained: Trained, form: Form) -> list[Part]:
    """Encoder, decoder and joiner, as the runtime wants them."""
    model, options = trained.model, trained.config.model
    arcs = make_rules(trained.config.loss, trained.tokenizer.vocab_size).arcs
    encoder = online_encoder(model, options, form) if form.streaming else offline_encoder(model, options, form)
    context = model.predictor.start(2, torch.device("cpu"))
    rows = torch.zeros(2, options.joiner_dim)
    batch = {0: "N"}
    decoder = Part(
        "decoder", Decoder(model), (context,), ("y",), ("decoder_out",), (batch,),
        {"context_size": str(options.context_size), "vocab_size": str(model.vocab_size)},
    )  # fmt: skip
    joiner = Part(
        "joiner", Joiner(model, arcs), (rows, rows.clone()), ("encoder_out", "decoder_out"), ("logit",), (batch, batch),
        {"joiner_dim": str(options.joiner_dim)},
    )  # fmt: skip
    return [encoder, decoder, joiner]


def offline_encoder(model: Transducer, options: ModelOptions, form: Form) -> Part:
    """The encoder of whole utterances."""
    frames = torch.tensor([EXAMPLE_FRAMES, EXAMPLE_FRAMES // 2])
    example = torch.zeros(2, EXAMPLE_FRAMES, options.mel_bins), frames
    return Part(
        "encoder", OfflineEncoder(model, form.chunk), example, ("x", "x_lens"), ("encoder_out", "encoder_out_lens"),
        ({0: "N", 1: "T"}, {0: "N"}), {"model_type": "conformer", "version": "1"},
    )  # fmt: skip


def online_encoder(model: Transducer, options: ModelOptions, form: Form) -> Part:
    """The encoder of streams."""
    chunk = torch.zeros(2, form.feature_frames, options.mel_bins)
    example = (chunk, *empty_caches(options, form, 2), torch.zeros(2, dtype=torch.int64))
    metadata = {
        "model_type": "conformer",
        "version": "1",
        "T": form.feature_frames,
        "decode_chunk_len": form.shift,
        "pad_length": form.timing.overlap,
        "left_context": form.left,
        "encoder_dim": options.encoder_dim,
        "num_encoder_layers": options.layers,
        "cnn_module_kernel": options.kernel_size,
    }
    return Part(
        "encoder", StreamingEncoder(model), example,
        ("x", "cached_attn", "cached_conv", "processed_lens"), ("encoder_out", "next_cached_attn", "next_cached_conv"),
        ({0: "N"}, {2: "N"}, {2: "N"}, {0: "N"}), {name: str(value) for name, value in metadata.items()},
    )  # fmt: skip


def empty_caches(options: ModelOptions, form: Form, streams: int) -> tuple[Tensor, Tensor]:
    """The caches (L,left,N,D) and (L,K−1,N,D) before the first chunk."""
    layers, dim = options.layers, options.encoder_dim
    return torch.zeros(layers, form.left, streams, dim), torch.zeros(layers, options.kernel_size - 1, streams, dim)


def tokens_txt(tokenizer: Tokenizer) -> str:
    """`tokens.txt`: a piece and its id a line."""
    return "".join(f"{piece} {id_}\n" for id_, piece in enumerate(tokenizer.pieces))


def bpe_vocab(tokenizer: Tokenizer) -> str:
    """`bpe.vocab`, by which the runtime divides hot words into pieces: a piece and its score a line.

    It takes the division of the largest sum of scores. With −1 − rank/V that is the one of fewest pieces and, among
    these, of the pieces that were merged first, as the tokenizer's nearly always is.
    """
    size = tokenizer.vocab_size
    return "".join(f"{piece}\t{-1 - id_ / size:.6f}\n" for id_, piece in enumerate(tokenizer.pieces))
