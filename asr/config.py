"""Every option of every command, as typed dataclasses: the schema that `conf/` is checked against.

Nothing heavy is imported here, so that a misspelt option is refused at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from asr.options import MISSING, option

LATTICE_BACKENDS = ("reference", "numba", "triton", "k2")


@dataclass
class ModelOptions:
    """Conformer encoder, stateless predictor and joiner."""

    mel_bins: int = option(80, "bins of the input filterbank", low=8)
    normalize: str = option(
        "global", "feature normalisation, part of the encoder", choices=("global", "utterance", "none")
    )
    subsampling_channels: int = option(32, "channels of the second convolution; the first has a quarter", low=4)
    encoder_dim: int = option(144, "width of the encoder (D)", low=1)
    layers: int = option(6, "Conformer layers", low=1)
    heads: int = option(4, "attention heads; must divide encoder_dim", low=1)
    feedforward_dim: int = option(576, "inner width of the feed-forward modules", low=1)
    kernel_size: int = option(15, "frames that the convolution module sees; odd", low=1)
    left_context: int = option(-1, "past frames that attention sees, after subsampling; -1: all", low=-1)
    right_context: int = option(-1, "future frames that attention sees, after subsampling; -1: all", low=-1)
    causal: bool = option(False, "convolutions see no future frames")
    chunk_frames: list[int] = option(
        [],
        "attention works in chunks of so many frames, after subsampling, and sees left_context before the chunk; in "
        "training one of these sizes is drawn for each batch, else the first is used; 0: the whole utterance",
        low=0,
    )
    predictor_dim: int = option(144, "width of the predictor", low=1)
    context_size: int = option(2, "labels that the stateless predictor sees", low=1)
    context_dropout: float = option(0.0, "share of label positions whose context is hidden", low=0, high=0.9)
    joiner_dim: int = option(144, "width of the joiner (J)", low=1)
    dropout: float = option(0.1, "dropout everywhere in the model", low=0, high=0.9)
    checkpoint_layers: bool = option(
        False, "keep only what enters a layer, and compute the layer again in the backward: less memory, more time"
    )


@dataclass
class LossOptions:
    """What every transducer loss has in common; one subclass per file in `conf/loss/`."""

    name: str = MISSING
    topology: str = option(
        "regular",
        "labels that a frame may emit: any number; at most one; or at most one, followed by a forced blank",
        choices=("regular", "modified", "constrained"),
    )
    fastemit: float = option(0.0, "share that the gradient of label arcs is raised by (FastEmit)", low=0)
    delay_penalty: float = option(0.0, "nats per frame that a label's log-probability falls with time", low=0)

    @property
    def uses_alignment(self) -> bool:
        """Whether utterances are to have the times of their words."""
        return False


@dataclass
class FullLossOptions(LossOptions):
    """The readable reference: the whole padded (B,T,U+1,V) grid."""

    name: str = option("full", "which transducer loss", choices=("full",))


@dataclass
class PackedLossOptions(LossOptions):
    """What the losses on packed nodes have in common."""

    chunk_nodes: Optional[int] = option(
        None, "nodes whose logits are held at a time; 0: all; null: as many as suit V and the device", low=0
    )
    gradient_tolerance: float = option(
        0.0, "relative error that the gradients may have, for skipping nodes; 0: none", low=0, high=0.5
    )
    backend: str = option(
        "auto", "what sums over paths; auto: numba on a CPU, triton on a GPU", choices=("auto", *LATTICE_BACKENDS)
    )


@dataclass
class OptimizedLossOptions(PackedLossOptions):
    """The loss of `full` from valid nodes alone and streamed logits."""

    name: str = option("optimized", "which transducer loss", choices=("optimized",))


@dataclass
class ArLossOptions(PackedLossOptions):
    """Alignment-restricted: every label near its aligned frame."""

    name: str = option("ar", "which transducer loss", choices=("ar",))
    left_frames: int = option(5, "frames (after subsampling) that a label may come before its aligned one", low=0)
    right_frames: int = option(10, "frames (after subsampling) that a label may come after its aligned one", low=0)

    @property
    def uses_alignment(self) -> bool:
        """See `LossOptions`."""
        return True


@dataclass
class PrunedLossOptions(PackedLossOptions):
    """A few label positions per frame, chosen by a simple joiner that is trained along, or around an alignment."""

    name: str = option("pruned", "which transducer loss", choices=("pruned",))
    bounds: str = option(
        "simple",
        "what chooses them: a simple joiner that is trained along, or the alignment",
        choices=("simple", "alignment"),
    )
    prune_range: int = option(5, "label positions kept per frame (S)", low=2)
    prune_mass: Optional[float] = option(
        None, "instead: as many as hold this share of the simple joiner's occupation", low=0.01, high=1
    )
    simple_scale: float = option(0.5, "weight of the simple joiner's loss, once warmed up", low=0)
    pruned_scale: float = option(1.0, "weight of the pruned loss, once warmed up", low=0)
    warmup_batches: int = option(
        500, "training batches in which the weights go from 1 (simple) and 0.1 (pruned) to these", low=0
    )
    lm_scale: float = option(0.25, "share of the simple loss that sees the predictor alone", low=0, high=1)
    am_scale: float = option(0.0, "share of the simple loss that sees the encoder and a unigram", low=0, high=1)

    @property
    def uses_alignment(self) -> bool:
        """See `LossOptions`."""
        return self.bounds == "alignment"


LOSSES: dict[str, type[LossOptions]] = {
    "full": FullLossOptions,
    "optimized": OptimizedLossOptions,
    "ar": ArLossOptions,
    "pruned": PrunedLossOptions,
}


@dataclass
class SpecAugmentOptions:
    """SpecAugment (Park et al., Interspeech 2019) without time warping."""

    time_masks: int = option(2, "time masks per 10 s of speech, at least one if not 0", low=0)
    time_mask_frames: int = option(30, "longest time mask, frames", low=0)
    time_mask_share: float = option(0.2, "longest time mask as a share of the utterance", low=0, high=1)
    frequency_masks: int = option(2, "frequency masks", low=0)
    frequency_mask_bins: int = option(20, "widest frequency mask, bins", low=0)


@dataclass
class DataOptions:
    """Where the cuts are and how they become batches."""

    train_cuts: list[str] = option([], "Lhotse manifests to train on")
    valid_cuts: list[str] = option([], "Lhotse manifests to validate on")
    tokenizer: str = option("", "directory made by `asr tokenizer`")
    max_seconds: float = option(100.0, "seconds of audio in a batch at most, padding included", low=0.1)
    max_utterances: Optional[int] = option(None, "utterances in a batch at most", low=1)
    max_memory_mb: Optional[float] = option(
        None, "a batch that is predicted to need more memory is divided; needs data.memory_weights", low=1
    )
    memory_weights: list[float] = option([], "what predicts it, as `asr preflight` prints them", low=0)
    buckets: int = option(10, "duration buckets of the sampler", low=2)
    min_duration: float = option(0.1, "shorter utterances are not trained on, seconds", low=0)
    max_duration: float = option(30.0, "longer utterances are not trained on, seconds", low=0)
    workers: int = option(2, "processes that load data; 0 loads in the training process", low=0)
    speed_factors: list[float] = option(
        [], "speed perturbation on the fly: one of these factors is drawn for each utterance and epoch", low=0.5, high=2
    )
    spec_augment: SpecAugmentOptions = field(default_factory=SpecAugmentOptions)


@dataclass
class OptimOptions:
    """The optimiser and its learning-rate schedule."""

    name: str = option("adamw", "which optimiser", choices=("adamw", "scaled_adam"))
    lr: float = option(1e-3, "peak learning rate", low=0)
    weight_decay: float = option(1e-2, "adamw: weight decay of matrices (not of biases and norms)", low=0)
    scale_lr: float = option(0.1, "scaled_adam: rate of a tensor's scale, as a share of that of its direction", low=0)
    betas: list[float] = option([0.9, 0.98], "Adam's decay rates", low=0, high=0.9999)
    warmup_steps: int = option(500, "step at which the warm-up is over", low=0)
    head_warmup_steps: int = option(20, "steps of warm-up of all but the encoder, whose warm-up follows", low=0)
    warmup_start: float = option(0.0, "share of the rate that a warm-up starts at", low=0, high=1)
    schedule: str = option("cosine", "what follows the warm-up", choices=("cosine", "inverse_sqrt", "constant", "eden"))
    final_lr: float = option(0.01, "share of the peak that a cosine schedule ends at", low=0, high=1)
    eden_steps: float = option(7500.0, "eden: step around which the rate begins to fall", low=1)
    eden_epochs: float = option(3.5, "eden: epoch around which the rate begins to fall", low=0.1)
    clip_norm: float = option(5.0, "gradient norm is clipped to this; 0: not clipped", low=0)


@dataclass
class TrainOptions:
    """The training loop."""

    steps: int = option(2000, "optimiser steps", low=1)
    seed: int = option(0, "seed of everything random", low=0)
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    precision: str = option(
        "float32", "autocast of the model; the lattice always runs in float32", choices=("float32", "bfloat16")
    )
    compile: bool = option(False, "compile the encoder's layers (torch.compile; minutes at the start)")
    accumulate: int = option(1, "batches per optimiser step", low=1)
    ema: float = option(
        0.0, "decay of a moving average of the weights, for `checkpoint=ema`; 0: none is kept", low=0, high=0.999999
    )
    ctc_weight: float = option(0.2, "weight of the auxiliary CTC loss; 0: none", low=0)
    log_every: int = option(20, "steps between two lines of metrics", low=1)
    validate_every: int = option(500, "steps between two validations (each is followed by a checkpoint)", low=1)
    save_every: int = option(500, "steps between two checkpoints", low=1)
    average_last: int = option(5, "checkpoints that are kept, and averaged by `checkpoint=average`", low=1)


@dataclass
class DecodeOptions:
    """How to search; one choice per file in `conf/decode/`."""

    name: str = option("greedy", "which search", choices=("greedy",))
    max_seconds: float = option(200.0, "seconds of audio in a batch at most", low=0.1)
    batch_size: Optional[int] = option(None, "utterances in a batch at most", low=1)
    max_symbols_per_frame: int = option(5, "labels that one frame may emit", low=1)


@dataclass
class TrainConfig:
    """`asr train`: train a transducer, or go on with a run that was interrupted."""

    run: str = option(MISSING, "directory of this run: config, checkpoints, logs, TensorBoard")
    model: ModelOptions = field(default_factory=ModelOptions)
    loss: LossOptions = field(default_factory=FullLossOptions)
    data: DataOptions = field(default_factory=DataOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)


@dataclass
class PreflightConfig(TrainConfig):
    """`asr preflight`: measure the memory of training, and try the largest batch that will occur in an epoch."""

    run: str = option("", "not used: the options of a training will do")


@dataclass
class DecodeConfig:
    """`asr decode`: decode a CutSet with a trained model, and score it."""

    run: str = option(MISSING, "run directory of `asr train`")
    cuts: str = option(MISSING, "Lhotse manifest to decode")
    output: str = option(MISSING, "directory for hypotheses and error reports")
    checkpoint: str = option("average", "best, last, average, ema, or the name of one checkpoint")
    name: str = option("", "name in the WER line; default: the manifest's")
    device: str = option("auto", "where to decode", choices=("auto", "cpu", "cuda"))
    decode: DecodeOptions = field(default_factory=DecodeOptions)


@dataclass
class TranscribeConfig:
    """`asr transcribe FILE...`: print the text of audio files."""

    run: str = option(MISSING, "run directory of `asr train`")
    files: list[str] = option([], "audio files")
    checkpoint: str = option("average", "best, last, average, ema, or the name of one checkpoint")
    device: str = option("auto", "where to decode", choices=("auto", "cpu", "cuda"))
    decode: DecodeOptions = field(default_factory=DecodeOptions)


@dataclass
class ScoreConfig:
    """`asr score`: word error rate of a hypotheses file, with readable reports."""

    hypotheses: str = option(MISSING, "hypotheses.jsonl, one {id, reference, hypothesis} per line")
    cuts: str = option("", "Lhotse manifest with the times of the words, for emission delays")
    output: str = option(MISSING, "directory for the reports")
    name: str = option("", "name in the WER line; default: the file's directory")


@dataclass
class PlotConfig:
    """`asr plot lattice`: draw an utterance's lattice under a trained model."""

    run: str = option(MISSING, "run directory of `asr train`")
    cuts: str = option(MISSING, "Lhotse manifest that holds the utterance")
    output: str = option(MISSING, "PNG file to write")
    pictures: list[str] = option([], "what to draw", choices=("lattice",))
    utterance: str = option("", "id of the utterance; default: the manifest's first")
    left_frames: int = option(5, "width of the alignment band before a label's frame", low=0)
    right_frames: int = option(10, "width of the alignment band after a label's frame", low=0)
    prune_range: int = option(5, "label positions that pruning keeps per frame", low=2)
    checkpoint: str = option("average", "best, last, average, ema, or the name of one checkpoint")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"))


@dataclass
class AlignConfig:
    """`asr align`: find out when each word of the transcripts was said."""

    aligner: str = option(
        MISSING,
        "pocketsphinx: an English HMM model; ctc, transducer: a trained model, named by run=",
        choices=("pocketsphinx", "ctc", "transducer"),
    )
    cuts: str = option(MISSING, "Lhotse manifest to align")
    output: str = option(MISSING, "CTM file to write; what is done is kept beside it until all is")
    run: str = option("", "run directory of `asr train`, for aligner=ctc and transducer")
    checkpoint: str = option("average", "best, last, average, ema, or the name of one checkpoint")
    device: str = option("auto", "where the trained model runs", choices=("auto", "cpu", "cuda"))
    jobs: int = option(2, "processes", low=1)


@dataclass
class AttachConfig:
    """`asr attach`: put times of words onto a CutSet, for alignment-restricted losses and for delays."""

    words: str = option(
        MISSING, "file with times of words, or a directory of such: CTM, TextGrid, .alignment.txt, Lhotse"
    )
    cuts: str = option(MISSING, "Lhotse manifest to read")
    output: str = option(MISSING, "Lhotse manifest to write; OUTPUT.coverage.txt names every fault")


@dataclass
class SpliceConfig:
    """`asr splice`: make new utterances from the words of others, cut out by their times."""

    cuts: str = option(MISSING, "Lhotse manifest with times of words")
    output: str = option(MISSING, "Lhotse manifest to write")
    audio: str = option(MISSING, "directory for the audio of the new utterances")
    count: int = option(1000, "new utterances", low=1)
    shortest: int = option(3, "words in a new utterance at least", low=1)
    longest: int = option(8, "words in a new utterance at most", low=1)
    edge_seconds: float = option(0.3, "audio that the first and the last word of an utterance keep outside", low=0)
    seed: int = option(0, "seed of the choice of words", low=0)


@dataclass
class TokenizerConfig:
    """`asr tokenizer`: train a SentencePiece tokenizer on the transcripts of manifests."""

    cuts: list[str] = option([], "Lhotse manifests whose transcripts to train on")
    output: str = option(MISSING, "directory for the tokenizer")
    kind: str = option("bpe", "units", choices=("bpe", "char"))
    vocab_size: Optional[int] = option(None, "pieces, blank and <unk> included; char: all characters", low=3)


@dataclass
class FeaturesConfig:
    """`asr features`: compute filterbanks once and write a manifest that points to them."""

    cuts: str = option(MISSING, "Lhotse manifest to read")
    output: str = option(MISSING, "Lhotse manifest to write")
    storage: str = option(MISSING, "directory for the features")
    mel_bins: int = option(80, "bins of the filterbank", low=8)
    speed_factors: list[float] = option(
        [], "also store a copy of every utterance at each of these speeds", low=0.5, high=2
    )
    jobs: int = option(2, "processes", low=1)


COMMANDS: dict[str, type] = {
    "tokenizer": TokenizerConfig,
    "align": AlignConfig,
    "attach": AttachConfig,
    "splice": SpliceConfig,
    "features": FeaturesConfig,
    "preflight": PreflightConfig,
    "train": TrainConfig,
    "decode": DecodeConfig,
    "transcribe": TranscribeConfig,
    "plot": PlotConfig,
    "score": ScoreConfig,
}
