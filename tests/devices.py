"""Where Triton's kernels run in tests: on a GPU, or on the CPU in Triton's interpreter (see conftest.py)."""

import os

import torch

KERNEL_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if os.environ.get("ASR_REQUIRE_GPU") == "1" and KERNEL_DEVICE == "cpu":
    raise RuntimeError("ASR_REQUIRE_GPU=1, but torch sees no GPU")
