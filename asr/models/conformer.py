"""Conformer encoder (Gulati et al., Interspeech 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from asr.config import ModelOptions
from asr.models.attention import RelativeSelfAttention, relative_positions
from asr.models.dropout import Dropout
from asr.models.mask import attention_mask, valid_frames
from asr.models.normalize import make_normalize
from asr.models.subsampling import ConvSubsampling


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


class ConvolutionModule(nn.Module):
    """Gated pointwise convolution, depthwise convolution over time, pointwise convolution.

    Layer norm stands where the paper has batch norm: statistics over a batch would let utterances
    (and their padding) influence each other, and would differ between one process and several.
    """

    def __init__(self, dim: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        """(B,T,D) → (B,T,D); frames that are not valid count as zeros."""
        x = nn.functional.glu(self.gate(self.norm(x_BTD)), dim=-1)
        x = x.masked_fill(~valid_BT[..., None], 0.0)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.dropout(self.output(nn.functional.silu(self.depthwise_norm(x))))


class ConformerLayer(nn.Module):
    """½ feed-forward, attention, convolution, ½ feed-forward, each residual; then layer norm."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        dim, dropout = options.encoder_dim, options.dropout
        self.feedforward_in = FeedForward(dim, options.feedforward_dim, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = RelativeSelfAttention(dim, options.heads, dropout)
        self.attention_dropout = Dropout(dropout)
        self.convolution = ConvolutionModule(dim, options.kernel_size, dropout)
        self.feedforward_out = FeedForward(dim, options.feedforward_dim, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BTD: Tensor, positions_PD: Tensor, mask_BTT: Tensor, valid_BT: Tensor) -> Tensor:
        """(B,T,D) → (B,T,D)."""
        x = x_BTD + 0.5 * self.feedforward_in(x_BTD)
        x = x + self.attention_dropout(self.attention(self.attention_norm(x), positions_PD, mask_BTT))
        x = x + self.convolution(x, valid_BT)
        x = x + 0.5 * self.feedforward_out(x)
        return self.norm(x)


class Conformer(nn.Module):
    """Normalisation, 4× subsampling, and a stack of Conformer layers.

    An utterance's output depends on its own frames alone, whatever else is in the batch.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.context = (options.left_context, options.right_context)
        self.normalize = make_normalize(options.normalize, options.mel_bins)
        self.subsampling = ConvSubsampling(
            options.mel_bins, options.subsampling_channels, options.encoder_dim, options.dropout
        )
        self.layers = nn.ModuleList(ConformerLayer(options) for _ in range(options.layers))

    def forward(self, features_BTF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Filterbanks (B,T,F) and their frames (B,) → (B,T',D) and frames after subsampling (B,).

        Every utterance needs at least `subsampling.MIN_FRAMES` frames.
        """
        x = self.normalize(features_BTF, lengths_B)
        x, lengths_B = self.subsampling(x, lengths_B)
        frames = x.shape[1]
        positions = relative_positions(frames, x.shape[2], x.device).to(x.dtype)
        mask = attention_mask(lengths_B, frames, *self.context)
        valid = valid_frames(lengths_B, frames)
        for layer in self.layers:
            x = layer(x, positions, mask, valid)
        return x, lengths_B

    def branch_outputs(self) -> list[nn.Linear]:
        """The last linear map of each residual branch of each layer."""
        branches = (FeedForward, RelativeSelfAttention, ConvolutionModule)
        parts = (part for layer in self.layers for part in layer.children() if isinstance(part, branches))
        return [[m for m in part.modules() if isinstance(m, nn.Linear)][-1] for part in parts]
