"""Where Triton's kernels run in tests: on a GPU, or on the CPU in Triton's interpreter (see conftest.py)."""

import torch

KERNEL_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
