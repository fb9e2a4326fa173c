"""Conformer encoder (Gulati et al., Interspeech 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from asr.config import ModelOptions
from asr.frames import FrameTiming
from asr.models.attention import RelativeSelfAttention, relative_positions
from asr.models.depthwise import over_time
from asr.models.dropout import Dropout
from asr.models.mask import attention_mask, unless_all, valid_frames
from asr.models.normalize import make_normalize
from asr.models.subsampling import ConvSubsampling
from asr.ops.packing import is_worth_it, pack, unpack


class FeedForward(nn.Sequential):
    """Layer norm, expansion with SiLU, projection: the Conformer's macaron half."""

    def __init__(self, dim: int, inner_dim: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(dim),
            nn.Linear(dim, inner_dim),
            nn.SiLU(),
            Dropout(dropout),
            nn.Linear(inner_dim, dim),
            Dropout(dropout),
        )

    def forward(self, x_BTD: Tensor, sizes: list[int] | None = None) -> Tensor:
        """(B,T,D) → (B,T,D). sizes: see `Dropout.forward`."""
        x = x_BTD
        for part in self:
            x = part(x, sizes) if isinstance(part, Dropout) else part(x)
        return x


class ConvolutionModule(nn.Module):
    """Gated pointwise convolution, depthwise convolution over time, pointwise convolution.

    Layer norm stands where the paper has batch norm: statistics over a batch would let utterances
    (and their padding) influence each other, and would differ between one process and several.
    """

    def __init__(self, dim: int, kernel_size: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=0 if causal else kernel_size // 2, groups=dim)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(
        self, x_BTD: Tensor, valid_BT: Tensor | None, past_BKD: Tensor, sizes: list[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B,T,D) → (B,T,D), and what the depthwise convolution read, (B,K+T,D).

        past_BKD: what it read in the K frames before; K is kernel_size − 1 where it is causal, else 0.
        Frames that are not valid count as zeros; None: all are. sizes: see `RelativeSelfAttention.forward`; then what
        was before is the same for all utterances, and what was read is not kept.
        """
        x = nn.functional.glu(self.gate(self.norm(x_BTD)), dim=-1)
        x = x if valid_BT is None else x.masked_fill(~valid_BT[..., None], 0.0)
        read = [after(past_BKD, own) for own in ([x] if sizes is None else torch.split(x, sizes, dim=1))]
        x = joined([over_time(self.depthwise, own) for own in read])
        x = self.dropout(self.output(nn.functional.silu(self.depthwise_norm(x))), sizes)
        return x, read[0] if sizes is None else past_BKD


def joined(parts: list[Tensor]) -> Tensor:
    """(B,T,D) of parts of the frames."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def after(past_BCD: Tensor, x_BTD: Tensor) -> Tensor:
    """What was kept of the frames before a chunk, and the chunk (B,C+T,D)."""
    return torch.cat((past_BCD, x_BTD), dim=1) if past_BCD.shape[1] else x_BTD


class ConformerLayer(nn.Module):
    """½ feed-forward, attention, convolution, ½ feed-forward, each residual; then layer norm."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        dim, dropout = options.encoder_dim, options.dropout
        self.feedforward_in = FeedForward(dim, options.feedforward_dim, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = RelativeSelfAttention(dim, options.heads, dropout)
        self.attention_dropout = Dropout(dropout)
        self.convolution = ConvolutionModule(dim, options.kernel_size, options.causal, dropout)
        self.feedforward_out = FeedForward(dim, options.feedforward_dim, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x_BTD: Tensor,
        positions_PD: Tensor | None,
        mask_BTS: Tensor | None,
        valid_BT: Tensor | None,
        past: tuple[Tensor, Tensor],
        sizes: list[int] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B,T,D) → (B,T,D), and what attention (B,C+T,D) and the convolution (B,K+T,D) read.

        past: what they read before this chunk, (B,C,D) and (B,K,D). sizes: see `RelativeSelfAttention.forward`.
        """
        past_attention_BCD, past_convolution_BKD = past
        x = torch.add(x_BTD, self.feedforward_in(x_BTD, sizes), alpha=0.5)
        query = self.attention_norm(x)
        memory = after(past_attention_BCD, query)
        x = x + self.attention_dropout(self.attention(query, memory, positions_PD, mask_BTS, sizes), sizes)
        convolved, read = self.convolution(x, valid_BT, past_convolution_BKD, sizes)
        x = x + convolved
        x = torch.add(x, self.feedforward_out(x, sizes), alpha=0.5)
        return self.norm(x), memory, read


@dataclass(frozen=True)
class EncoderState:
    """What the layers keep of the frames before a chunk, of B utterances that began together.

    attention_LBCD: what attention has read, of the last C ≤ left_context frames (all, where that has no bound).
    convolution_LBKD: what the depthwise convolution has read, of the last kernel_size − 1 frames.
    exists_BC: which of those C frames there are; others come before the beginning, where a runtime keeps a fixed C.
    """

    attention_LBCD: Tensor
    convolution_LBKD: Tensor
    exists_BC: Tensor


class Conformer(nn.Module):
    """Normalisation, subsampling, and a stack of Conformer layers.

    An utterance's output depends on its own frames alone, whatever else is in the batch. A causal encoder whose
    attention works in chunks (Zhang et al., arXiv 2012.05481) can read an utterance chunk by chunk, with the same
    output: an utterance as a whole is a single chunk with nothing before it, and a narrower mask.

    packs: lay the utterances of a batch end to end on a CPU, where nothing is then computed for the padding between
    them, if there is so much of it that this saves time. A GPU would be waited for, and does better with few large
    operations; and what is traced or compiled must not depend on the lengths of one batch.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.context = (options.left_context, options.right_context)
        self.chunk_frames = tuple(options.chunk_frames)
        self.checkpoint_layers = options.checkpoint_layers
        self.packs = True
        self.past_sizes = (options.layers, options.kernel_size - 1 if options.causal else 0, options.encoder_dim)
        self.normalize = make_normalize(options.normalize, options.mel_bins)
        self.subsampling = ConvSubsampling(
            options.mel_bins,
            options.subsampling_channels,
            options.encoder_dim,
            options.dropout,
            options.subsampling,
        )
        self.layers = nn.ModuleList(ConformerLayer(options) for _ in range(options.layers))

    def forward(self, features_BTF: Tensor, lengths_B: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Filterbanks (B,T,F) and their frames (B,) → (B,T',D) and frames after subsampling (B,).

        Every utterance needs at least `timing.window` frames. chunk: frames, after subsampling, of the
        chunks that attention works in, 0 for the whole utterance; by default one of `model.chunk_frames`.
        """
        x, frames_B = self.subsample(features_BTF, lengths_B)
        context = *self.context, self.choose_chunk() if chunk is None else chunk
        may_pack = self.packs and x.device.type == "cpu" and not torch.compiler.is_compiling()
        if may_pack and is_worth_it(sizes := frames_B.tolist(), x.shape[2]):
            return self.encode_packed(x, sizes, context), frames_B
        mask = attention_mask(frames_B, x.shape[1], *context)
        return self.encode(x, frames_B, mask, self.start(x))[0], frames_B

    def encode_packed(self, x_BTD: Tensor, sizes: list[int], context: tuple[int, int, int]) -> Tensor:
        """The layers on whole utterances (B,T,D), end to end; zeros as padding."""
        most, all_1 = max(sizes), torch.tensor([sum(sizes)])
        x, mask = pack(x_BTD, sizes), attention_mask(torch.tensor([most]), most, *context)
        return unpack(self.encode(x, all_1, mask, self.start(x), sizes)[0], sizes, x_BTD.shape[1])

    def forward_chunk(
        self, features_BTF: Tensor, lengths_B: Tensor, state: EncoderState | None
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """The next chunk of utterances that are read as they come: like `forward`, and the state after it.

        features_BTF: n frames after subsampling need `timing.needed(n)` feature frames, of which the last
        `timing.overlap` come again at the beginning of the next chunk. lengths_B may be 0, for utterances that have
        ended. state: None at the beginning.
        """
        x, frames_B = self.subsample(features_BTF, lengths_B)
        state = self.start(x) if state is None else state
        valid_BT = valid_frames(frames_B, x.shape[1])
        exists_BS = torch.cat((state.exists_BC, valid_BT), dim=1)
        mask_BTS = exists_BS[:, None].expand(-1, x.shape[1], -1)
        encoded, attended, convolved = self.encode(x, frames_B, mask_BTS, state)
        return encoded, frames_B, self.end(attended, convolved, exists_BS)

    @property
    def timing(self) -> FrameTiming:
        """How the frames after subsampling lie in time."""
        return self.subsampling.timing

    def subsample(self, features_BTF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised and subsampled (B,T',D), and its frames (B,)."""
        x, frames_B = self.subsampling(self.normalize(features_BTF, lengths_B), lengths_B)
        return x, frames_B.clamp(min=0)

    def start(self, x_BTD: Tensor) -> EncoderState:
        """The state before the first frame."""
        (layers, kept, dim), batch = self.past_sizes, x_BTD.shape[0]
        attention, convolution = x_BTD.new_zeros(layers, batch, 0, dim), x_BTD.new_zeros(layers, batch, kept, dim)
        return EncoderState(attention, convolution, x_BTD.new_ones(batch, 0, dtype=torch.bool))

    def end(self, attended: list[Tensor], convolved: list[Tensor], exists_BS: Tensor) -> EncoderState:
        """The state after a chunk, from what attention and convolution of each layer have read until its end."""
        size, (left_context, _), (_, kept, _) = attended[0].shape[1], self.context, self.past_sizes
        first = 0 if left_context < 0 else max(size - left_context, 0)
        ends = [read[:, read.shape[1] - kept :] for read in convolved]
        return EncoderState(
            torch.stack([read[:, first:] for read in attended]), torch.stack(ends), exists_BS[:, first:]
        )

    def encode(
        self,
        x_BTD: Tensor,
        frames_B: Tensor,
        mask_BTS: Tensor,
        state: EncoderState,
        sizes: list[int] | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The layers on a chunk (B,T,D); and what attention and convolution of each layer have read until its end.

        sizes: see `RelativeSelfAttention.forward`.
        """
        valid_BT, mask = unless_all(valid_frames(frames_B, x_BTD.shape[1])), unless_all(mask_BTS)
        positions = self.positions(x_BTD, *mask_BTS.shape[1:])
        x, attended, convolved = x_BTD, [], []
        again = self.checkpoint_layers and self.training and torch.is_grad_enabled()
        for layer, *past in zip(self.layers, state.attention_LBCD, state.convolution_LBKD):
            inputs = x, positions, mask, valid_BT, past, sizes
            # Computed again with the random numbers of the first time: dropout is the same.
            x, *read = checkpoint(layer, *inputs, use_reentrant=False) if again else layer(*inputs)
            attended.append(read[0])
            convolved.append(read[1])
        return x, attended, convolved

    def positions(self, x_BTD: Tensor, queries: int, keys: int) -> Tensor | None:
        """`relative_positions`; None where every layer knows what it makes of them."""
        if all(cast(ConformerLayer, layer).attention.knows(keys) for layer in self.layers):
            return None
        return relative_positions(queries, keys, x_BTD.shape[2], x_BTD.device).to(x_BTD.dtype)

    def choose_chunk(self) -> int:
        """The size of chunks where none is asked for: drawn in training, else the first; 0 without chunks."""
        if not self.chunk_frames or not self.training:
            return self.chunk_frames[0] if self.chunk_frames else 0
        return self.chunk_frames[int(torch.randint(len(self.chunk_frames), ()))]

    def branch_outputs(self) -> list[nn.Linear]:
        """The last linear map of each residual branch of each layer."""
        branches = (FeedForward, RelativeSelfAttention, ConvolutionModule)
        parts = (part for layer in self.layers for part in layer.children() if isinstance(part, branches))
        return [[m for m in part.modules() if isinstance(m, nn.Linear)][-1] for part in parts]
