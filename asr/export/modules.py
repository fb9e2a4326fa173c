"""A transducer in the parts that a runtime calls one by one; each is a thin shell around the model that was trained.

N streams or utterances at a time; T feature frames of F bins; J the joiner's width. Left: frames, after subsampling,
that attention looks back; K: the kernel size of the convolutions; L layers of width D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.arcs.base import ArcSet
from asr.models.conformer import EncoderState
from asr.models.transducer import Transducer


class OfflineEncoder(nn.Module):
    """Whole utterances. chunk: frames, after subsampling, of the chunks that attention works in; 0: none."""

    def __init__(self, model: Transducer, chunk: int) -> None:
        super().__init__()
        self.model, self.chunk = model, chunk

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N,T,F) and their frames (N,) → (N,T',J) and frames after subsampling (N,)."""
        return self.model.encode(x, x_lens, self.chunk)


class StreamingEncoder(nn.Module):
    """One chunk of each stream, and what the layers keep of the chunks before, in caches of fixed size."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: Tensor, cached_attn: Tensor, cached_conv: Tensor, processed_lens: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N,T,F) of a chunk → (N,T',J) and both caches after it.

        cached_attn: (L,Left,N,D). cached_conv: (L,K−1,N,D). processed_lens: feature frames before the chunk (N,); what
        the caches hold of before the beginning is not read, whatever it is.
        """
        processed_N = processed_lens // self.model.timing.factor
        exists_NC = existing(cached_attn.shape[1], processed_N)
        heard_NK = existing(cached_conv.shape[1], processed_N)
        convolution_LNKD = cached_conv.transpose(1, 2).masked_fill(~heard_NK[None, ..., None], 0.0)
        before = EncoderState(cached_attn.transpose(1, 2), convolution_LNKD, exists_NC)
        frames_N = torch.full_like(processed_lens, x.shape[1])
        encoded, _, state = self.model.encode_chunk(x, frames_N, before)
        return encoded, state.attention_LBCD.transpose(1, 2), state.convolution_LBKD.transpose(1, 2)


class Decoder(nn.Module):
    """The predictor: the last labels → what the joiner adds to the encoder's output."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.model = model

    def forward(self, y: Tensor) -> Tensor:
        """Labels (N,context), −1 where there is none → (N,J)."""
        return self.model.predict_next(y)


class Joiner(nn.Module):
    """Logits whose softmax is the model's distribution over blank and labels, whatever its arcs make of theirs."""

    def __init__(self, model: Transducer, arcs: ArcSet) -> None:
        super().__init__()
        self.model, self.factorised = model, arcs.name == "hat"

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> Tensor:
        """(N,J) and (N,J) → (N,V)."""
        logits: Tensor = self.model.joiner(encoder_out, decoder_out)
        if not self.factorised:
            return logits
        blank, labels = logits[:, :1], logits[:, 1:]
        no_blank = nn.functional.logsigmoid(-blank)
        return torch.cat((nn.functional.logsigmoid(blank), no_blank + labels.log_softmax(1)), dim=1)


def existing(size: int, processed_N: Tensor) -> Tensor:
    """Which of the `size` frames before a chunk there are (N,size), when so many have been read."""
    age = torch.arange(size, 0, -1, device=processed_N.device)
    return age <= processed_N[:, None]
