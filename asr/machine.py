"""On what machine something was computed, for what is left behind."""

from __future__ import annotations

import contextlib
import os
import platform

import torch


def machine(device: torch.device) -> str:
    """What a device is, in words, and which PyTorch computes on it: of a CPU how many cores there are, and which."""
    on_gpu = device.type == "cuda"
    what = torch.cuda.get_device_name(device) if on_gpu else f"{os.cpu_count()} cores of {processor()}"
    return f"{what}, {platform.system()}, PyTorch {torch.__version__}"


def processor() -> str:
    """The processor's name, where the system tells; else its kind."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
