"""`asr train`: train a transducer, or go on with a run."""

from __future__ import annotations

from asr.config import TrainConfig
from asr.train.distributed import joined
from asr.train.training import train


def main(config: TrainConfig) -> None:
    """Train a transducer, or go on with an interrupted run. Raises InputError for input at fault."""
    with joined(config.train.device) as ranks:
        train(config, ranks)
