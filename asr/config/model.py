"""The model: its encoder, predictor and joiner."""

from __future__ import annotations

from dataclasses import dataclass

from asr.options import option


@dataclass
class ModelOptions:
    """Conformer encoder, stateless predictor and joiner."""

    mel_bins: int = option(80, "bins of the input filterbank", low=8, high=1024)
    normalize: str = option(
        "global", "feature normalisation, part of the encoder", choices=("global", "utterance", "none")
    )
    subsampling: int = option(4, "feature frames (10 ms) that become one: 2, 4, 8 or 16", low=2, high=16)
    subsampling_channels: int = option(
        32, "channels of the convolutions that subsample; the first of several has a quarter", low=4, high=4096
    )
    encoder_dim: int = option(144, "width of the encoder (D)", low=1, high=16384)
    layers: int = option(6, "Conformer layers", low=1, high=200)
    heads: int = option(4, "attention heads; must divide encoder_dim", low=1, high=1024)
    feedforward_dim: int = option(576, "inner width of the feed-forward modules", low=1, high=65536)
    kernel_size: int = option(15, "frames that the convolution module sees; odd", low=1, high=1023)
    left_context: int = option(-1, "past frames that attention sees, after subsampling; -1: all", low=-1)
    right_context: int = option(-1, "future frames that attention sees, after subsampling; -1: all", low=-1)
    causal: bool = option(False, "convolutions see no future frames")
    chunk_frames: list[int] = option(
        [],
        "attention works in chunks of so many frames, after subsampling, and sees left_context before the chunk; in "
        "training one of these sizes is drawn for each batch, else the first is used; 0: the whole utterance",
        low=0,
    )
    predictor_dim: int = option(144, "width of the predictor", low=1, high=16384)
    context_size: int = option(2, "labels that the stateless predictor sees", low=1, high=100)
    context_dropout: float = option(0.0, "share of label positions whose context is hidden", low=0, high=0.9)
    joiner_dim: int = option(144, "width of the joiner (J)", low=1, high=16384)
    dropout: float = option(0.1, "dropout everywhere in the model", low=0, high=0.9)
    checkpoint_layers: bool = option(
        False, "keep only what enters a layer, and compute the layer again in the backward: less memory, more time"
    )
