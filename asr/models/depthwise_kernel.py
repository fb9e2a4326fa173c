"""A depthwise convolution over time, compiled."""

from __future__ import annotations

import numpy as np

from asr.ops.compiled import compiled

Array = np.ndarray


@compiled(fastmath={"contract"})
def convolve(x_BSD: Array, weight_KD: Array, bias_D: Array, padding: int, out_BTD: Array) -> None:
    """Fill (B,T,D) with what is found in (B,S,D), T = S + 2 padding − K + 1."""
    for utterance in range(len(x_BSD)):
        x_SD = x_BSD[utterance]
        for t in range(out_BTD.shape[1]):
            out_D, first = out_BTD[utterance, t], t - padding
            out_D[:] = bias_D
            for k in range(max(-first, 0), min(len(weight_KD), len(x_SD) - first)):
                x_D, weight_D = x_SD[first + k], weight_KD[k]
                for d in range(len(out_D)):
                    out_D[d] += weight_D[d] * x_D[d]


@compiled(fastmath={"contract"})
def correlate(x_BSD: Array, grad_BTD: Array, padding: int, grad_KD: Array) -> None:
    """Add the gradient of `convolve` by its weight to (K,D), from what it read (B,S,D) and that of what it found."""
    for utterance in range(len(x_BSD)):
        x_SD = x_BSD[utterance]
        for t in range(grad_BTD.shape[1]):
            grad_D, first = grad_BTD[utterance, t], t - padding
            for k in range(max(-first, 0), min(len(grad_KD), len(x_SD) - first)):
                x_D, sum_D = x_SD[first + k], grad_KD[k]
                for d in range(len(sum_D)):
                    sum_D[d] += grad_D[d] * x_D[d]
