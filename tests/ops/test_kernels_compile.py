"""What Triton's interpreter accepts, its compiler must too: all kernels, compiled for an H100, which needs no GPU."""

import os
import subprocess
import sys

import pytest

SCRIPT = '''
import itertools
import sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from asr.ops.joint import gpu as joint
from asr.ops.lattice import gpu as lattice

INDICES = {"encoder_row", "predictor_row", "target", "order", "start", "row_offsets", "labels", "first", "offset"}
SUMS = ("blank", "label", "by_blank", "by_label", "total")
SIZES = {"size", "first_node", "nodes"}
REGULAR, MODIFIED, TDT = ((1, 0), (0, 1)), ((1, 0), (1, 1)), ((1, 0), (0, 1), (2, 0), (1, 1), (2, 1))


def compile_for_h100(kernel, dtypes, dtype, **constants):
    """Compile with pointers to indices, to `dtypes` by name, and, all others, to `dtype`."""

    def kind(name):
        if name in constants:
            return "constexpr"
        return "i32" if name in SIZES else "*i64" if name in INDICES else f"*{dtypes.get(name, dtype)}"

    source = ASTSource(kernel, {name: kind(name) for name in kernel.arg_names}, constants)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


width, vocab_size, stride = 512, 500, 512
for dtype in ("bf16", "fp32", "fp64"):
    name, type_of_sums = ("fp64", tl.float64) if dtype == "fp64" else ("fp32", tl.float32)
    sums = dict.fromkeys(SUMS, name)
    for kernel in (joint._hidden, joint._add_row_sums):
        compile_for_h100(kernel, sums, dtype, WIDTH=width, SUM=type_of_sums, **joint.tile_of(width))
    for kernel in (joint._arcs, joint._merged_gradient):
        sizes = {"V": vocab_size, "STRIDE": stride, "SUM": type_of_sums}
        compile_for_h100(kernel, sums, dtype, **sizes, **joint.tile_of(stride))
for moves, climbs in ((REGULAR, 1), (MODIFIED, -1), (TDT, 1)):
    for kernel, edges in itertools.product((lattice._forward, lattice._backward), (False, True)):
        sizes = {"MOVES": moves, "CLIMBS": climbs, "EDGES": edges, "BLOCK": 128}
        compile_for_h100(kernel, {"weights": "fp32"}, "fp64", **sizes)
'''


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is built for Linux")
def test_all_kernels_compile_for_an_h100(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
