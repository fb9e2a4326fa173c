"""`asr package`: a trained model as one directory or zip file."""

from __future__ import annotations

import torch

from asr.config import PackageConfig
from asr.runs.pack import pack
from asr.runs.trained import load_trained


def main(config: PackageConfig) -> None:
    """Pack, and say what is in it. Raises InputError where the run cannot be packed."""
    trained = load_trained(config.run, config.checkpoint, torch.device("cpu"))
    for line in pack(config, trained):
        print(line)
    print(f"{config.output}: {trained.checkpoint}, digest {trained.digest}")
