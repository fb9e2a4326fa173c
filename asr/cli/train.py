"""`asr train`: train a transducer, or go on with a run."""

from __future__ import annotations

from asr.config import TrainConfig
from asr.train.distributed import joined
from asr.train.replay import replay
from asr.train.training import train


def main(config: TrainConfig) -> None:
    """Train a transducer, go on with a run, or compute a batch of it again. Raises InputError for input at fault."""
    if config.replay:
        replay(config)
        return
    with joined(config.train.device) as ranks:
        train(config, ranks)
