"""The standard joiner on packed nodes of a GPU: z = W·tanh(e + p) + b, its standard arcs, and its merged gradient.

What multiplies matrices is cuBLAS, in the dtype that the joiner itself would have (autocast's, or the weights'), and
what lies between two products is one Triton kernel each. Of n nodes at a time there are, in that dtype, and nothing
else of this size: hidden = tanh(e + p) (n,J), logits (n,V), ∂L/∂hidden (n,J).

    forward    hidden;  logits = hidden·Wᵀ;  log p(blank) and log p(label) of each node: one pass over the logits
    backward   hidden and logits once more;  ∂L/∂logits in the logits' place;  ∂L/∂W += (∂L/∂logits)ᵀ·hidden,
               ∂L/∂b += its sum over nodes;  ∂L/∂hidden = ∂L/∂logits·W;  the sums of ∂L/∂hidden·(1 − hidden²) over the
               nodes of each encoder row, and over those of each predictor row

The bias is added where logits are read, the log-normaliser and all sums over nodes are at least float32. There are no
atomics: the nodes are put in order of their rows first, and a program sums up those of one row, so that the
same inputs give the same bits (as far as cuBLAS does: on one stream, for the same shapes).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from asr.ops.joint.chunked import PackedIndex, slices
from asr.ops.launch import launching

BUFFER_ENTRIES = 2**25  # of the largest buffer: products that take longer than the launches between them
ALIGNMENT = 64  # V is padded to a multiple, so that rows of logits begin on a cache line: 500 halves are 7.8 of them
TILE = 4096  # entries that a program has in its registers
TRITON_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


@triton.jit
def _hidden(
    encoder, predictor, encoder_row, predictor_row, hidden, size,
    WIDTH: tl.constexpr, NODES: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """tanh(e + p) of NODES nodes."""
    n = tl.program_id(0).to(tl.int64) * NODES + tl.arange(0, NODES)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (n < size)[:, None] & (j < WIDTH)[None, :]
    encoder_at = tl.load(encoder_row + n, mask=n < size, other=0)[:, None] * WIDTH + j[None, :]
    predictor_at = tl.load(predictor_row + n, mask=n < size, other=0)[:, None] * WIDTH + j[None, :]
    total = tl.load(encoder + encoder_at, mask=inside, other=0.0).to(SUM)
    total += tl.load(predictor + predictor_at, mask=inside, other=0.0).to(SUM)
    small = tl.exp(-2 * tl.abs(total))  # cannot overflow
    size_of = (1 - small) / (1 + small)
    tanh = tl.where(total < 0, -size_of, size_of)
    tl.store(hidden + n[:, None] * WIDTH + j[None, :], tanh.to(hidden.dtype.element_ty), mask=inside)


@triton.jit
def _logits(products, bias, n, k, size, V: tl.constexpr, STRIDE: tl.constexpr, SUM: tl.constexpr):
    """Logits k of nodes n; −inf where k is none, 0 where n is none."""
    inside = (n < size)[:, None] & (k < STRIDE)[None, :]  # V is no multiple of what a thread can load at once
    z = tl.load(products + n[:, None] * STRIDE + k[None, :], mask=inside, other=0.0).to(SUM)
    z += tl.load(bias + k, mask=k < V, other=0.0).to(SUM)[None, :]
    return tl.where((k < V)[None, :], z, -float("inf"))


@triton.jit
def _normaliser(
    products, bias, n, size,
    V: tl.constexpr, STRIDE: tl.constexpr, NODES: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """The highest logit of nodes n, and log Σ_k exp(z_k − highest): apart, for beside a high logit the logarithm would
    lose its last digits.
    """
    highest = tl.full((NODES,), -float("inf"), SUM)
    total = tl.zeros((NODES,), SUM)
    for begin in tl.static_range(0, V, BLOCK):
        z = _logits(products, bias, n, begin + tl.arange(0, BLOCK), size, V, STRIDE, SUM)
        higher = tl.maximum(highest, tl.max(z, 1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(z - higher[:, None]), 1)
        highest = higher
    return highest, tl.log(total)


@triton.jit
def _arcs(
    products, bias, target, blank, label, size,
    V: tl.constexpr, STRIDE: tl.constexpr, NODES: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """log p(blank) and log p(label) of NODES nodes."""
    n = tl.program_id(0).to(tl.int64) * NODES + tl.arange(0, NODES)
    inside = n < size
    highest, log_total = _normaliser(products, bias, n, size, V, STRIDE, NODES, BLOCK, SUM)
    k = tl.load(target + n, mask=inside, other=0)
    z_blank = tl.load(products + n * STRIDE, mask=inside, other=0.0).to(SUM) + tl.load(bias).to(SUM)
    z_label = tl.load(products + n * STRIDE + k, mask=inside, other=0.0).to(SUM) + tl.load(bias + k).to(SUM)
    tl.store(blank + n, (z_blank - highest) - log_total, mask=inside)
    tl.store(label + n, (z_label - highest) - log_total, mask=inside)


@triton.jit
def _merged_gradient(
    products, bias, target, by_blank, by_label, size,
    V: tl.constexpr, STRIDE: tl.constexpr, NODES: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """∂L/∂z of NODES nodes in the place of their logits; 0 in the columns that pad V."""
    n = tl.program_id(0).to(tl.int64) * NODES + tl.arange(0, NODES)
    inside = n < size
    highest, log_total = _normaliser(products, bias, n, size, V, STRIDE, NODES, BLOCK, SUM)
    blank = tl.load(by_blank + n, mask=inside, other=0.0).to(SUM)[:, None]
    label = tl.load(by_label + n, mask=inside, other=0.0).to(SUM)[:, None]
    label_at = tl.load(target + n, mask=inside, other=0)[:, None]
    for begin in tl.static_range(0, STRIDE, BLOCK):
        k = begin + tl.arange(0, BLOCK)
        z = _logits(products, bias, n, k, size, V, STRIDE, SUM)
        grad = tl.exp((z - highest[:, None]) - log_total[:, None]) * (blank + label)
        grad -= tl.where(k[None, :] == 0, blank, 0.0) + tl.where(k[None, :] == label_at, label, 0.0)
        at = products + n[:, None] * STRIDE + k[None, :]
        tl.store(at, grad.to(products.dtype.element_ty), mask=inside[:, None] & (k < STRIDE)[None, :])


@triton.jit
def _add_row_sums(
    hidden_grad, hidden, order, first_node, start, total,
    WIDTH: tl.constexpr, NODES: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Add ∂L/∂(e + p), summed over the nodes of a row, to this row of `total`."""
    row = tl.program_id(0).to(tl.int64)
    begin = tl.load(start + row)
    end = tl.load(start + row + 1)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if begin < end:
        sums = tl.zeros((NODES, BLOCK), SUM)
        at = begin
        while at < end:
            i = at + tl.arange(0, NODES)
            n = tl.load(order + i, mask=i < end, other=0) - first_node
            inside = (i < end)[:, None] & (j < WIDTH)[None, :]
            place = n[:, None] * WIDTH + j[None, :]
            tanh = tl.load(hidden + place, mask=inside, other=0.0).to(SUM)
            sums += tl.load(hidden_grad + place, mask=inside, other=0.0).to(SUM) * (1 - tanh * tanh)
            at += NODES
        here = total + row * WIDTH + j
        tl.store(here, tl.load(here, mask=j < WIDTH, other=0.0) + tl.sum(sums, 0), mask=j < WIDTH)


class FusedJoint:
    """The standard joiner, see `asr.ops.joint.chunked.Joint`.

    linear: its map, W (V,J) and b (V,). chunk_nodes: nodes whose hidden values and logits are held at a time; 0: all;
    None: as many as make `BUFFER_ENTRIES`. parameters: those of the map that are to get a gradient.
    """

    def __init__(self, linear: nn.Linear, chunk_nodes: int | None, parameters: Sequence[Tensor]) -> None:
        self.linear, self.chunk_nodes = linear, chunk_nodes
        self.trained = [any(p is q for q in parameters) for p in (linear.weight, linear.bias)]
        self.dtype = product_dtype(linear.weight)

    def log_probs(self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor) -> Tensor:
        """Log-probability of blank and of the label (2,N) at every node, at least in float32."""
        size = len(index.target_N)
        work = Workspace(self.linear, self.dtype, self.chunk_nodes, size, encoder_rows, predictor_rows)
        log_probs_CN = torch.empty(2, size, dtype=work.sum_dtype, device=encoder_rows.device)
        with launching(encoder_rows):
            for part in slices(size, work.chunk):
                work.evaluate(index, part)
                work.over_logits(_arcs, part, index.target_N[part], *log_probs_CN[:, part])
        return log_probs_CN

    def gradients(
        self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor, by_CN: Tensor
    ) -> list[Tensor]:
        """The gradients of encoder rows, predictor rows, and those parameters of W and b that are trained."""
        with launching(encoder_rows):
            return self.gradients_here(index, encoder_rows, predictor_rows, by_CN)

    def gradients_here(
        self, index: PackedIndex, encoder_rows: Tensor, predictor_rows: Tensor, by_CN: Tensor
    ) -> list[Tensor]:
        """`gradients` on the current device."""
        size = len(index.target_N)
        work = Workspace(self.linear, self.dtype, self.chunk_nodes, size, encoder_rows, predictor_rows)
        hidden_grad = torch.empty_like(work.hidden)
        encoder_sums = RowSums(index.encoder_row_N, encoder_rows, work)
        predictor_sums = RowSums(index.predictor_row_N, predictor_rows, work)
        weight_grad = torch.zeros_like(work.weight, dtype=work.sum_dtype)
        bias_grad = weight_grad.new_zeros(len(work.weight))
        for part in slices(size, work.chunk):
            hidden, logits = work.evaluate(index, part)
            work.over_logits(_merged_gradient, part, index.target_N[part], *by_CN[:, part])
            torch.mm(logits, work.weight, out=hidden_grad[: len(logits)])
            encoder_sums.add(part, hidden_grad, hidden)
            predictor_sums.add(part, hidden_grad, hidden)
            if self.trained[0]:
                weight_grad += product(logits.T, hidden, work.sum_dtype)
            if self.trained[1]:
                bias_grad += logits.sum(0, dtype=work.sum_dtype)
        used = slice(self.linear.out_features)
        rows = [encoder_sums.total.to(encoder_rows.dtype), predictor_sums.total.to(predictor_rows.dtype)]
        of_map = (weight_grad[used].to(self.linear.weight.dtype), bias_grad[used].to(self.linear.bias.dtype))
        return rows + [grad for grad, trained in zip(of_map, self.trained) if trained]


class Workspace:
    """The buffers that all chunks use in turn, and what is the same for all.

    weight: (V′,J), W and rows of 0. hidden: (n,J); logits: (n,V′), without the bias; both for `chunk` nodes.
    Raises ValueError where rows are not as wide as the map's input.
    """

    def __init__(
        self,
        linear: nn.Linear,
        dtype: torch.dtype,
        chunk_nodes: int | None,
        size: int,
        encoder_rows: Tensor,
        predictor_rows: Tensor,
    ) -> None:
        self.vocab_size, self.width = linear.weight.shape
        if not encoder_rows.shape[1] == predictor_rows.shape[1] == self.width:
            raise ValueError(
                f"rows of {encoder_rows.shape[1]} and {predictor_rows.shape[1]}, but the joiner takes {self.width}"
            )
        self.rows = encoder_rows.contiguous(), predictor_rows.contiguous()
        padding = -self.vocab_size % ALIGNMENT
        self.weight = nn.functional.pad(linear.weight.detach().to(dtype), (0, 0, 0, padding)).contiguous()
        self.bias = linear.bias.detach()
        if chunk_nodes is None:
            chunk_nodes = max(BUFFER_ENTRIES // max(self.weight.shape), 1)
        self.chunk = min(chunk_nodes or size, size)
        self.hidden = self.weight.new_empty(self.chunk, self.width)
        self.logits = self.weight.new_empty(self.chunk, len(self.weight))
        self.sum_dtype = torch.promote_types(dtype, torch.float32)

    def evaluate(self, index: PackedIndex, part: slice) -> tuple[Tensor, Tensor]:
        """Hidden values (n,J) and logits without the bias (n,V′) of the nodes `part`."""
        size = part.stop - part.start
        hidden, logits = self.hidden[:size], self.logits[:size]
        tile = tile_of(self.width)
        grid = triton.cdiv(size, tile["NODES"]), triton.cdiv(self.width, tile["BLOCK"])
        where = index.encoder_row_N[part], index.predictor_row_N[part]
        _hidden[grid](*self.rows, *where, hidden, size, WIDTH=self.width, SUM=TRITON_TYPES[self.sum_dtype], **tile)
        torch.mm(hidden, self.weight.T, out=logits)
        return hidden, logits

    def over_logits(self, kernel: triton.JITFunction, part: slice, *per_node: Tensor) -> None:
        """Run a kernel over the logits of the nodes `part`, with what it takes and gives for each node."""
        size, tile = part.stop - part.start, tile_of(len(self.weight))
        sizes = {"V": self.vocab_size, "STRIDE": len(self.weight), "SUM": TRITON_TYPES[self.sum_dtype]}
        kernel[(triton.cdiv(size, tile["NODES"]),)](self.logits, self.bias, *per_node, size, **sizes, **tile)


class RowSums:
    """Gradients of rows (R,J), each the sum over its nodes, from one chunk of nodes after the other.

    row_N: each node's row. total: (R,J), at least float32.
    """

    def __init__(self, row_N: Tensor, rows: Tensor, work: Workspace) -> None:
        self.sum_dtype = work.sum_dtype
        self.total = torch.zeros_like(rows, dtype=work.sum_dtype, memory_format=torch.contiguous_format)
        chunk_N = torch.arange(len(row_N), device=rows.device) // max(work.chunk, 1)
        self.order_N = (chunk_N * len(rows) + row_N).argsort(stable=True)  # by rows, within each chunk
        self.row_N = row_N[self.order_N]
        self.bounds = torch.arange(len(rows) + 1, device=rows.device)

    def add(self, part: slice, hidden_grad: Tensor, hidden: Tensor) -> None:
        """Add the nodes `part`, from ∂L/∂hidden and hidden (n,J)."""
        start = torch.searchsorted(self.row_N[part], self.bounds)
        rows, width = self.total.shape
        tile = tile_of(width)
        grid = rows, triton.cdiv(width, tile["BLOCK"])
        order, types = self.order_N[part], {"SUM": TRITON_TYPES[self.sum_dtype]}
        _add_row_sums[grid](hidden_grad, hidden, order, part.start, start, self.total, WIDTH=width, **types, **tile)


def product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a·b in `dtype`, the same or a wider one: what is summed up over chunks must not be rounded in each of them."""
    if dtype == a.dtype:
        return a @ b
    return torch.mm(a, b, out_dtype=dtype) if a.device.type == "cuda" else a.to(dtype) @ b.to(dtype)


def product_dtype(weight: Tensor) -> torch.dtype:
    """What a linear map is computed in, here and now: autocast's dtype (which spares float64) or the weight's."""
    device = weight.device.type
    if torch.is_autocast_enabled(device) and weight.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return weight.dtype


def tile_of(width: int) -> dict[str, int]:
    """Nodes and columns of a program's tile, of rows of this width."""
    block = min(triton.next_power_of_2(width), TILE)
    return {"NODES": TILE // block, "BLOCK": block}
