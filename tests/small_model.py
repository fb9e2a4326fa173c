"""A model that is small enough to be built dozens of times in a test."""

from typing import Any

from asr.config import ModelOptions


def small_options(**changes: Any) -> ModelOptions:
    """Options of a model of two thin layers without dropout."""
    small = {
        "mel_bins": 8,
        "subsampling_channels": 4,
        "encoder_dim": 8,
        "layers": 2,
        "heads": 2,
        "feedforward_dim": 12,
        "kernel_size": 3,
        "predictor_dim": 6,
        "joiner_dim": 8,
        "dropout": 0.0,
    }
    return ModelOptions(**{**small, **changes})
