"""Feature normalisation inside the encoder, so that a model reads plain filterbanks everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.errors import InputError
from asr.models.mask import valid_frames


class GlobalNormalize(nn.Module):
    """(x − mean) / std with the statistics of the training data, kept as buffers of shape (F,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mel_bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(mel_bins))
        self.register_buffer("std", torch.ones(mel_bins))

    @torch.no_grad()
    def estimate(self, features: list[Tensor]) -> None:
        """Set the statistics from a sample of utterances, each (T,F). Raises InputError where they are not finite."""
        frames = torch.cat(features).double()
        mean, std = frames.mean(0).to(self.mean), frames.std(0).clamp(min=1e-3).to(self.std)
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise InputError(
                "model.normalize=global: mean and deviation of the features are not finite: check the audio"
            )
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, features_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Normalised features, (B,T,F)."""
        return (features_BTF - self.mean) / self.std


class UtteranceNormalize(nn.Module):
    """Zero mean and unit variance of each utterance's valid frames, per bin. Needs the whole utterance."""

    def forward(self, features_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """Normalised features, (B,T,F)."""
        valid = valid_frames(lengths_B, features_BTF.shape[1])[..., None]
        count = lengths_B[:, None, None]
        mean = (features_BTF * valid).sum(1, keepdim=True) / count
        centred = (features_BTF - mean) * valid
        variance = centred.square().sum(1, keepdim=True) / count
        return centred * torch.rsqrt(variance + 1e-5)


class NoNormalize(nn.Module):
    """Features as they are."""

    def forward(self, features_BTF: Tensor, lengths_B: Tensor) -> Tensor:
        """The input, (B,T,F)."""
        return features_BTF


def make_normalize(name: str, mel_bins: int) -> nn.Module:
    """The normalisation called `name` in `conf/model`."""
    if name == "global":
        return GlobalNormalize(mel_bins)
    return {"utterance": UtteranceNormalize, "none": NoNormalize}[name]()
