"""Every option of every command, as typed dataclasses: the schema that `conf/` is checked against.

Nothing heavy is imported here, so that a misspelt option is refused at once.
"""

from asr.config.arcs import (
    ARCS,
    ArcOptions,
    HatArcOptions,
    MultiBlankArcOptions,
    StandardArcOptions,
    TdtArcOptions,
)
from asr.config.commands import (
    COMMANDS,
    VARIANTS,
    AlignConfig,
    AttachConfig,
    CompareConfig,
    DecodeConfig,
    ExportConfig,
    FeaturesConfig,
    LmConfig,
    ManifestConfig,
    PlotConfig,
    PreflightConfig,
    ScoreConfig,
    SegmentConfig,
    SharConfig,
    SpliceConfig,
    TokenizerConfig,
    TrainConfig,
    TranscribeConfig,
)
from asr.config.data import DataOptions, NoiseOptions, RoomOptions, SpecAugmentOptions
from asr.config.decode import SEARCHES, BeamOptions, DecodeOptions, GreedyOptions, K2BeamOptions
from asr.config.loss import (
    LOSSES,
    ArLossOptions,
    FullLossOptions,
    LossOptions,
    OptimizedLossOptions,
    PackedLossOptions,
    PrunedLossOptions,
)
from asr.config.model import ModelOptions
from asr.config.train import OptimOptions, TrainOptions

__all__ = [
    "ARCS",
    "COMMANDS",
    "LOSSES",
    "SEARCHES",
    "VARIANTS",
    "AlignConfig",
    "ArLossOptions",
    "ArcOptions",
    "AttachConfig",
    "BeamOptions",
    "CompareConfig",
    "DataOptions",
    "DecodeConfig",
    "DecodeOptions",
    "ExportConfig",
    "FeaturesConfig",
    "FullLossOptions",
    "GreedyOptions",
    "HatArcOptions",
    "K2BeamOptions",
    "LmConfig",
    "LossOptions",
    "ManifestConfig",
    "ModelOptions",
    "MultiBlankArcOptions",
    "NoiseOptions",
    "OptimOptions",
    "OptimizedLossOptions",
    "PackedLossOptions",
    "PlotConfig",
    "PreflightConfig",
    "PrunedLossOptions",
    "RoomOptions",
    "ScoreConfig",
    "SegmentConfig",
    "SharConfig",
    "SpecAugmentOptions",
    "SpliceConfig",
    "StandardArcOptions",
    "TdtArcOptions",
    "TokenizerConfig",
    "TrainConfig",
    "TrainOptions",
    "TranscribeConfig",
]
