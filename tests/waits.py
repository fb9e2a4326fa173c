"""Where a program would wait for a GPU: tensors that claim to be on one, and a count of what needs their values."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Operations whose result, or its size, the host has to know. Others are of this kind with some arguments, see `waits`.
READ = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten._unique2}
DEVICE = torch.device("meta")  # one that needs no driver to be spoken of


class Away(torch.Tensor):
    """A tensor on a device that is not there; its values are on the CPU."""

    @staticmethod
    def __new__(cls, values):
        away = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), values.stride(), values.storage_offset(), dtype=values.dtype, device=DEVICE
        )
        away.values = values
        return away

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        with Waits():  # one of its own: not counted
            return operation(*args, **(kwargs or {}))


def values_of(value):
    return value.values if isinstance(value, Away) else value


class Mode(TorchDispatchMode):
    """A mode without torch.compile, which takes 3 s to import."""

    @classmethod
    def _should_skip_dynamo(cls):
        return False


class Waits(Mode):
    """Computes with tensors `Away`, and counts in `count` and names in `where` what waits for them."""

    def __init__(self):
        super().__init__()
        self.count, self.where = 0, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat = pytree.tree_leaves((args, kwargs))
        away = any(isinstance(value, Away) for value in flat) or kwargs.get("device") == DEVICE
        if kwargs.get("device") == DEVICE:
            kwargs["device"] = torch.device("cpu")
        elif away and kwargs.get("device") is not None:
            away = False
            self.wait(operation)
        if away and waits(operation, args, kwargs):
            self.wait(operation)
        inner_args, inner_kwargs = pytree.tree_map(values_of, (args, kwargs))
        if operation is aten._to_copy.default:
            inner_kwargs["non_blocking"] = False
        result = operation(*inner_args, **inner_kwargs)
        if not away:
            return result
        given = {id(value.values): value for value in flat if isinstance(value, Away)}  # in-place: the same tensor
        return pytree.tree_map(
            lambda value: given.get(id(value), Away(value)) if isinstance(value, torch.Tensor) else value, result
        )

    def wait(self, operation):
        self.count += 1
        self.where.append(str(operation))


def waits(operation, args, kwargs):
    """Whether the host waits for this operation on tensors `Away`."""
    packet = operation.overloadpacket
    if packet in READ:
        return True
    if packet in (aten.index, aten.index_put, aten.index_put_):
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    if packet is aten.repeat_interleave:
        return kwargs.get("output_size") is None
    return packet is aten.segment_reduce and not kwargs.get("unsafe", False)


def moved(module):
    """The module with its parameters and buffers `Away`."""
    away = copy.deepcopy(module)
    for part in away.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(Away(parameter.detach()))
        for name, values in part.named_buffers(recurse=False):
            part._buffers[name] = Away(values)
    return away


class Recorded(Mode):
    """Every operation of a block, to be done again on what is in the same tensors by then, as by a CUDA graph."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        assert not waits(operation, args, kwargs or {}), operation
        result = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, result))
        return result

    def pool(self):
        return None

    def replay(self):
        now = {}  # what is in a tensor this time

        def value_of(value):
            return now.get(id(value), value)

        for operation, args, kwargs, before in self.done:
            result = operation(*pytree.tree_map(value_of, args), **pytree.tree_map(value_of, kwargs))
            pairs = zip(pytree.tree_leaves(before), pytree.tree_leaves(result), strict=True)
            now |= {id(old): new for old, new in pairs if isinstance(old, torch.Tensor)}
        for before in self.results:
            before.copy_(value_of(before))


def recorded(function, given, pool=None):
    """`asr.decode.greedy_graph.cuda_graph` without CUDA."""
    with Recorded() as graph:
        graph.results = function(*given)
    return graph, graph.results
