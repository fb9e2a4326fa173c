"""Modules as ONNX files, in float32 and with int8 weights."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from asr.errors import InputError
from asr.export.sherpa import Part

OPSET = 18
NEEDED = ("onnx", "onnxruntime", "onnxscript")
FOLDED_BYTES = 2**30  # of a constant that is worked out while exporting: all there are


def check_installed() -> None:
    """Raise InputError where what makes or runs ONNX files is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"format=onnx: {', '.join(missing)} not installed: pip install '.[export]'")


def write(part: Part, path: Path) -> None:
    """The part as an ONNX file, whose products of constants are worked out, and with its metadata."""
    import onnxscript.optimizer

    axes = {name: torch.export.Dim(name) for sizes in part.dynamic for name in sizes.values() if name == "N"}
    axes |= {name: torch.export.Dim.DYNAMIC for sizes in part.dynamic for name in sizes.values() if name != "N"}
    shapes = tuple({axis: axes[name] for axis, name in sizes.items()} for sizes in part.dynamic)
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            part.module.eval(),
            part.example,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_shapes=shapes,
        )
        assert program is not None
        onnxscript.optimizer.optimize(program.model, input_size_limit=FOLDED_BYTES, output_size_limit=FOLDED_BYTES)
    # Of what lines, in what files of this machine, each node was made: an eighth of the file, and nobody's business.
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.model.metadata_props.update(part.metadata)
    program.save(path)


def write_int8(source: Path, path: Path) -> None:
    """The file `source` with int8 weights of its products; activations are quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(source, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm", "Gather"])
    model, original = onnx.load(path), onnx.load(source)
    if not model.metadata_props:
        model.metadata_props.extend(original.metadata_props)
        onnx.save(model, path)


def load(path: Path, threads: int = 1) -> Callable[..., tuple[Tensor, ...]]:
    """What a file computes, a tuple of tensors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
        return tuple(map(torch.from_numpy, found))

    return run


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter says of its own workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "root", "")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
