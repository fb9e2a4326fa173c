"""Transducers with random weights, and encoder output for them, on which searches are checked."""

import torch
from small_model import small_options
from torch import Tensor

from asr.models.transducer import Transducer


def random_model(seed: int, vocab_size: int | None = None, extra_outputs: int = 0) -> Transducer:
    """A model in float64, so that no tie depends on the batch; blank is as likely as the labels together."""
    torch.manual_seed(seed)
    options = small_options(layers=1, context_size=1 + seed % 3)
    model = Transducer(options, vocab_size or 4 + seed % 3, extra_outputs)
    torch.nn.init.normal_(model.joiner.output.weight)
    torch.nn.init.normal_(model.predictor_projection.weight)
    model.joiner.output.bias.data[0] += 1.5
    return model.double().eval()


def random_encoded(seed: int, batch: int = 8, longest: int = 12) -> tuple[Tensor, Tensor]:
    """Encoder output (B,T,J), garbage beyond the frames (B,) included."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(1, longest + 1, (batch,), generator=generator)
    return 2 * torch.randn(batch, longest, 8, generator=generator, dtype=torch.float64), frames
