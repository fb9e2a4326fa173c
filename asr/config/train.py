"""Optimiser and training loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr.options import option, path_option


@dataclass
class OptimOptions:
    """The optimiser and its learning-rate schedule."""

    name: str = option("adamw", "which optimiser", choices=("adamw", "scaled_adam"))
    lr: float = option(1e-3, "peak learning rate", low=0)
    weight_decay: float = option(
        1e-2, "adamw: weight decay of matrices (not of biases and norms)", low=0, only_with="name=adamw"
    )
    scale_lr: float = option(
        0.1,
        "scaled_adam: rate of a tensor's scale, as a share of that of its direction",
        low=0,
        only_with="name=scaled_adam",
    )
    betas: list[float] = option([0.9, 0.98], "Adam's decay rates", low=0, high=0.9999, length=2)
    warmup_steps: int = option(500, "step at which the warm-up is over", low=0)
    head_warmup_steps: int = option(20, "steps of warm-up of all but the encoder, whose warm-up follows", low=0)
    warmup_start: float = option(0.0, "share of the rate that a warm-up starts at", low=0, high=1)
    schedule: str = option("cosine", "what follows the warm-up", choices=("cosine", "inverse_sqrt", "constant", "eden"))
    final_lr: float = option(
        0.01, "share of the peak that a cosine schedule ends at", low=0, high=1, only_with="schedule=cosine"
    )
    eden_steps: float = option(
        7500.0, "eden: step around which the rate begins to fall", low=1, only_with="schedule=eden"
    )
    eden_epochs: float = option(
        3.5, "eden: epoch around which the rate begins to fall", low=0.1, only_with="schedule=eden"
    )
    clip_norm: float = option(5.0, "gradient norm is clipped to this; 0: not clipped", low=0)
    lr_factors: dict[str, float] = option(
        {}, "what rates are multiplied by in parts of the model, as {encoder.*: 0.1}; the last that fits counts", low=0
    )


@dataclass
class LoraOptions:
    """Low-rank adaptation of a trained model."""

    rank: int = option(
        0,
        "rank of what is trained beside the maps of attention and feed-forward, for all of the encoder; 0: none",
        low=0,
        high=4096,
    )
    alpha: float = option(16.0, "what is added counts alpha/rank times", low=0)


@dataclass
class TrainOptions:
    """The training loop."""

    steps: int = option(2000, "optimiser steps", low=1)
    change: bool = option(
        False, "go on with a run though options that change the result are not as before; changes.jsonl keeps them"
    )
    seed: int = option(0, "seed of everything random", low=0, high=2**63 - 1)
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    precision: str = option(
        "default",
        "autocast of the model; the lattice always runs in float32. default: bfloat16 on a GPU that has it, else "
        "float32. auto: on a CPU, too, the faster one, by a matrix product that is timed in both. The run keeps "
        "what was found",
        choices=("default", "float32", "bfloat16", "auto"),
    )
    compile: bool = option(False, "compile the encoder's layers (torch.compile; minutes at the start)")
    shard: bool = option(
        False, "divide weights, gradients and optimiser state over the processes (FSDP2); whole only in validations"
    )
    accumulate: int = option(1, "batches per optimiser step", low=1, high=10_000)
    ema: float = option(
        0.0, "decay of a moving average of the weights, for `checkpoint=ema`; 0: none is kept", low=0, high=0.999999
    )
    ctc_weight: float = option(0.2, "weight of the auxiliary CTC loss; 0: none", low=0)
    ctc_consistency: float = option(
        0.0, "share that the divergence between two views of each utterance has in it (CR-CTC); 0: one view", low=0
    )
    frame_weight: float = option(
        0.0,
        "weight, at first, of the cross entropy of frames to the pieces said in them by the times of words; 0: none",
        low=0,
    )
    frame_batches: int = option(2000, "training batches over which that weight falls to 0", low=1)
    log_every: int = option(20, "steps between two lines of metrics", low=1)
    validate_every: int = option(500, "steps between two validations (of a checkpoint each)", low=1)
    save_every: int = option(500, "steps between two checkpoints", low=1)
    max_bad_steps: int = option(20, "steps in a row without a finite gradient after which training gives up", low=1)
    average_last: int = option(5, "checkpoints that are kept, and averaged by `checkpoint=average`", low=1)
    init: str = path_option("", "run directory, or package, whose weights to begin with; pieces are told by their text")
    init_checkpoint: str = option("auto", "which of its checkpoints, as `checkpoint` of asr decode")
    init_except: list[str] = option([], "modules or tensors that begin fresh all the same, by name, with * and ?")
    freeze: list[str] = option([], "modules that stay as they are, by name, with * and ?: no gradient, no dropout")
    lora: LoraOptions = field(default_factory=LoraOptions)
