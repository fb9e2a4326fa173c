"""The standard joiner on packed nodes: every way of evaluating it against float64 autograd on the whole grid."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from devices import KERNEL_DEVICE
from torch import nn

from asr.arcs.rules import ArcRules
from asr.arcs.standard import standard_arcs
from asr.errors import InputError
from asr.models.joiner import Joiner
from asr.nodes.base import make_nodes
from asr.ops.joint.chunked import (
    ChunkedJoint,
    PackedSettings,
    choose_joint,
    index_nodes,
    packed_loss,
)
from asr.ops.joint.gpu import product
from asr.ops.joint.reference import grid_logits, linear_after_tanh

FRAMES, LENGTHS = (6, 2, 3), (4, 0, 2)  # the second utterance has no label
# A share of the norm that a result may be further off than plain PyTorch in the same dtype.
EPSILON = {torch.float64: 1e-14, torch.float32: 1e-7, torch.bfloat16: 1e-3}
WAYS = {  # joint and chunk_nodes
    "chunked, 7 at a time": ("chunked", 7),
    "fused": ("fused", None),
    "fused, all at once": ("fused", 0),
    "fused, 7 at a time": ("fused", 7),
    "fused, 1 at a time": ("fused", 1),
    "numba, 7 at a time": ("numba", 7),
    "numba": ("numba", None),
}
WAYS = {name: way for name, way in WAYS.items() if way[0] != "numba" or KERNEL_DEVICE == "cpu"}
PRECISIONS = [(way, dtype) for way in WAYS for dtype in EPSILON if WAYS[way][0] != "numba" or dtype == torch.float32]
KERNELS = [name for name in ("fused, 7 at a time", "numba, 7 at a time") if name in WAYS]


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan():
    """What `torch.empty` and its like return."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def halves_are_rounded(monkeypatch):
    """Triton's interpreter cuts float32 off to make bfloat16 of it; a GPU rounds to nearest even."""
    if KERNEL_DEVICE == "cuda":
        return
    import triton.language as tl
    from triton.runtime import interpreter

    cut_off = interpreter._convert_float

    def convert(values, source, target, mode):
        if (source, target) == (tl.float32, tl.bfloat16):
            bits = values.view(np.uint32)
            rounded = np.where(np.isfinite(values), bits + 0x7FFF + (bits >> 16 & 1), bits)
            values = rounded.astype(np.uint32).view(np.float32)
        return cut_off(values, source, target, mode)

    monkeypatch.setattr(interpreter, "_convert_float", convert)


class Batch:
    """Rows, labels, a set of nodes that is not all of them, and occupations: any numbers, for what they multiply."""

    def __init__(self, width, vocab_size, dtype, share=1.0):
        torch.manual_seed(0)
        self.dtype, half = dtype, dtype == torch.bfloat16
        self.joiner = Joiner(width, vocab_size).to(KERNEL_DEVICE, torch.float32 if half else dtype)
        nn.init.normal_(self.joiner.output.weight, std=2 * width**-0.5)
        nn.init.normal_(self.joiner.output.bias)
        self.encoder_out = torch.randn(3, 6, width, device=KERNEL_DEVICE).to(dtype).requires_grad_()
        self.predictor_out = torch.randn(3, 5, width, device=KERNEL_DEVICE).to(dtype).requires_grad_()
        self.labels = torch.randint(1, vocab_size, (3, 4), device=KERNEL_DEVICE)
        self.labels[0, 1] = vocab_size - 1
        first = torch.tensor([[0, 0, 0, 1, 1, 2], [0] * 6, [0] * 6])
        last = torch.tensor([[2, 3, 3, 4, 4, 4], [0] * 6, [2] * 6])
        sizes = (torch.tensor(FRAMES), torch.tensor(LENGTHS), first, last)
        self.nodes = make_nodes(*(values.to(KERNEL_DEVICE) for values in sizes))
        self.index = index_nodes(self.nodes, 6, self.labels)
        if share < 1:
            self.index = self.index.take((torch.rand(len(self.nodes)) < share).nonzero()[:, 0].to(KERNEL_DEVICE))
        self.by_blank, self.by_label = torch.rand(2, len(self.index.target_N), device=KERNEL_DEVICE)

    @property
    def trained(self):
        return [p for p in self.joiner.parameters() if p.requires_grad]

    def materialised(self, dtype):
        """Arcs and gradients from the logits of the whole grid and autograd."""
        joiner = copy.deepcopy(self.joiner).to(torch.promote_types(dtype, torch.float32))
        rows = [rows.detach().to(dtype).requires_grad_() for rows in (self.encoder_out, self.predictor_out)]
        with torch.autocast(KERNEL_DEVICE, torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = grid_logits(joiner, *rows).flatten(0, 2)
        log_probs = logits.log_softmax(1, dtype=torch.promote_types(dtype, torch.float32))
        positions = self.predictor_out.shape[1]
        node = self.index.encoder_row_N * positions + self.index.predictor_row_N % positions
        blank, label = log_probs[node, 0], log_probs[node, self.index.target_N]
        loss = -(self.by_blank * blank + self.by_label * label).sum()
        trained = [p for p in joiner.parameters() if p.requires_grad]
        return [blank.detach(), label.detach(), *torch.autograd.grad(loss, [*rows, *trained])]

    @torch.no_grad()
    def evaluated(self, joint, chunk_nodes):
        """The same from packed nodes, in the batch's precision; the gradients outside of autocast, as in training."""
        rows = self.encoder_out.flatten(0, 1), self.predictor_out.flatten(0, 1)
        settings = PackedSettings(chunk_nodes, 0.0, ArcRules(), joint=joint)
        with torch.autocast(KERNEL_DEVICE, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            way = choose_joint(self.joiner, settings, self.trained, rows[0].device)
            arcs = way.log_probs(self.index, *rows)
        return [*arcs, *way.gradients(self.index, *rows, torch.stack((self.by_blank, self.by_label)))]


def relative_error(found, exact):
    return float((found.double() - exact.view(found.shape)).norm() / exact.norm())


@pytest.mark.parametrize(
    ("width", "vocab_size", "tile", "share"),
    [(24, 13, 4096, 1.0), (70, 150, 64, 0.5)],
    ids=["every node", "half of the nodes, rows in several tiles"],
)
@pytest.mark.parametrize(("way", "dtype"), PRECISIONS)
def test_every_way_is_as_exact_as_plain_pytorch(way, dtype, width, vocab_size, tile, share, monkeypatch):
    monkeypatch.setattr("asr.ops.joint.gpu.TILE", tile)
    batch = Batch(width, vocab_size, dtype, share)
    exact, plain = batch.materialised(torch.float64), batch.materialised(dtype)
    found = batch.evaluated(*WAYS[way])
    assert [value.dtype for value in found] == [value.dtype for value in plain]
    for value, usual, wanted in zip(found, plain, exact, strict=True):
        assert relative_error(value, wanted) <= relative_error(usual, wanted) + EPSILON[dtype]


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("way", ["chunked, 7 at a time", *KERNELS])
def test_a_frozen_parameter_gets_no_gradient(way, frozen):
    dtype = torch.float32 if WAYS[way][0] == "numba" else torch.float64
    batch = Batch(24, 13, dtype)
    getattr(batch.joiner.output, frozen).requires_grad_(False)
    found, exact = batch.evaluated(*WAYS[way]), batch.materialised(torch.float64)
    assert len(found) == 5
    for value, wanted in zip(found, exact, strict=True):
        assert relative_error(value, wanted) <= 4 * EPSILON[dtype]


@pytest.mark.parametrize("way", KERNELS)
def test_rows_that_cancel_are_added_up_before_anything_is_rounded(way):
    batch = Batch(24, 13, torch.float32)
    with torch.no_grad():
        batch.encoder_out += 64
        batch.predictor_out -= 64
    found, exact = batch.evaluated(*WAYS[way]), batch.materialised(torch.float64)
    for value, wanted in zip(found, exact, strict=True):
        assert relative_error(value, wanted) <= 1e-6


@pytest.mark.parametrize("dtype", EPSILON, ids=str)
def test_the_kernels_give_the_same_bits_every_time(dtype):
    batch = Batch(70, 150, dtype)
    for first, second in zip(batch.evaluated("fused", 7), batch.evaluated("fused", 7), strict=True):
        assert torch.equal(first, second)


def test_products_that_are_summed_up_are_not_rounded_to_halves():
    a, b = torch.randn(2, 30, 30, device=KERNEL_DEVICE).bfloat16()
    found = product(a, b, torch.float32)
    assert relative_error(found, a.double() @ b.double()) < 1e-6
    assert relative_error(a @ b, found) > 1e-4


def test_the_weights_gradient_is_not_rounded_in_every_chunk():
    batch = Batch(24, 13, torch.bfloat16)
    batch.joiner.output.bias.requires_grad_(False)
    apart, together = (batch.evaluated("fused", chunk)[-1] for chunk in (1, 0))
    assert relative_error(apart, together) < 1e-4


@pytest.mark.parametrize(
    "lacking",
    [
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
        subprocess.CalledProcessError(1, ["gcc", "main.c"]),
    ],
)
@pytest.mark.parametrize(("kernel", "joint"), [("joint.gpu._hidden", "fused"), ("lattice.gpu._forward", "chunked")])
def test_a_machine_on_which_no_kernel_can_be_started_is_told_what_it_lacks(kernel, joint, lacking, monkeypatch):
    class Kernel:
        def __getitem__(self, grid):
            raise lacking

    monkeypatch.setattr(f"asr.ops.{kernel}", Kernel())
    batch = Batch(24, 13, torch.float32)
    rows = batch.encoder_out, batch.predictor_out, batch.labels
    settings = PackedSettings(None, 0.0, ArcRules(backend="triton"), joint=joint)
    with pytest.raises(InputError, match="install gcc and python3-dev"):
        packed_loss(batch.joiner, batch.nodes, *rows, settings)


@pytest.mark.parametrize("way", KERNELS)
def test_no_node_at_all(way):
    batch = Batch(24, 13, torch.float32)
    batch.index = batch.index.take(torch.zeros(0, dtype=torch.long, device=KERNEL_DEVICE))
    batch.by_blank = batch.by_label = batch.by_blank[:0]
    blank, label, *gradients = batch.evaluated(*WAYS[way])
    assert blank.shape == label.shape == (0,)
    assert len(gradients) == 4
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Triton's interpreter
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("nan")])
@pytest.mark.parametrize("way", KERNELS)
def test_what_is_not_finite_is_not_hidden(way, bad):
    batch = Batch(24, 13, torch.float32)
    with torch.no_grad():
        batch.joiner.output.bias[5] = bad
    blank, label, *_ = batch.evaluated(*WAYS[way])
    assert blank.isnan().all()
    assert label.isnan().all()


@pytest.mark.parametrize("way", KERNELS)
def test_what_is_not_finite_stays_where_it_is(way):
    batch = Batch(24, 13, torch.float32)
    with torch.no_grad():
        batch.encoder_out[0, 0] = torch.nan
    blank, label, *_ = batch.evaluated(*WAYS[way])
    assert torch.equal(blank.isnan(), batch.index.encoder_row_N == 0)
    assert torch.equal(label.isnan(), batch.index.encoder_row_N == 0)


@pytest.mark.parametrize("way", KERNELS)
def test_rows_of_another_width_are_refused(way):
    batch = Batch(24, 13, torch.float32)
    batch.joiner = Joiner(25, 13).to(KERNEL_DEVICE)
    with pytest.raises(ValueError, match="rows of 24 and 24, but the joiner takes 25"):
        batch.evaluated(*WAYS[way])


def test_a_label_that_is_no_output_is_refused():
    batch = Batch(24, 13, torch.float32)
    batch.index.target_N[0] = 13
    with pytest.raises(ValueError, match="a label beyond the 13 outputs"):
        batch.evaluated("numba", None)


@pytest.mark.parametrize("way", ["chunked, 7 at a time", *KERNELS])
def test_a_joiner_of_other_outputs_than_the_arcs_is_refused(way):
    batch, (joint, chunk_nodes) = Batch(24, 13, torch.float32), WAYS[way]
    settings = PackedSettings(chunk_nodes, 0.0, ArcRules(standard_arcs("regular", 12)), joint=joint)
    with pytest.raises(InputError, match="the joiner has 13 outputs a node, and these arcs 12"):
        packed_loss(batch.joiner, batch.nodes, batch.encoder_out, batch.predictor_out, batch.labels, settings)


@pytest.mark.parametrize("way", [name for name in ("fused", "numba") if name in WAYS])  # torch adds up less well
@torch.no_grad()
def test_a_nearly_certain_blank_has_a_loss_beside_a_high_logit(way):
    batch = Batch(24, 500, torch.float32)
    batch.joiner.output.weight.mul_(0.01)
    batch.joiner.output.bias.zero_()[0] = 20.0
    with torch.enable_grad():
        exact = batch.materialised(torch.float64)[0]
    assert -2e-6 < exact.min() < exact.max() < -5e-7
    assert relative_error(batch.evaluated(*WAYS[way])[0], exact) < 0.15  # 1 + 1e-6 has one digit in float32


@pytest.mark.skipif(KERNEL_DEVICE != "cpu", reason="kernels of a CPU")
def test_what_is_known_of_some_nodes_changes_nothing():
    batch = Batch(24, 13, torch.float32)
    leaves = [batch.encoder_out, batch.predictor_out, *batch.joiner.parameters()]
    settings = PackedSettings(None, 0.0, ArcRules(), joint="numba")

    def run(known_CN):
        given = batch.joiner, batch.nodes, *leaves[:2], batch.labels, settings
        loss = packed_loss(*given, known_CN=known_CN)[0]
        return [loss, *torch.autograd.grad(loss.sum(), leaves)]

    with torch.no_grad():
        rows = batch.encoder_out.flatten(0, 1), batch.predictor_out.flatten(0, 1)
        known_CN = choose_joint(batch.joiner, settings, [], rows[0].device).log_probs(batch.index, *rows)
    expected = run(None)
    for unknown in (slice(5), slice(5, None), slice(3, 9)):
        part_CN = known_CN.clone()
        part_CN[:, unknown] = torch.nan
        for value, wanted in zip(run(part_CN), expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tolerance", [0.0, 0.3])
@pytest.mark.parametrize("way", KERNELS)
def test_a_loss_by_kernels_is_the_chunked_one(way, tolerance):
    kernels, dtype = WAYS[way][0], torch.float32 if WAYS[way][0] == "numba" else torch.float64
    batch = Batch(24, 13, dtype)
    leaves = [batch.encoder_out, batch.predictor_out, *batch.joiner.parameters()]
    weights = torch.tensor([1.0, 3.0, -0.5], device=KERNEL_DEVICE, dtype=dtype)

    def run(joint):
        settings = PackedSettings(7, tolerance, ArcRules(standard_arcs("modified"), 0.2, 0.1), joint=joint)
        loss, _, kept, _ = packed_loss(batch.joiner, batch.nodes, *leaves[:2], batch.labels, settings)
        return [kept, loss, *torch.autograd.grad((loss * weights).sum(), leaves)]

    found, wanted = run(kernels), run("chunked")
    assert found[0] < (0.5 if tolerance else 1.0) * len(batch.nodes)
    for value, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)


# Which way is chosen


class OtherForward(Joiner):
    def forward(self, encoder_NJ, predictor_NJ):
        return self.output(torch.relu(encoder_NJ + predictor_NJ))


class Renamed(Joiner):
    pass


def changed(change):
    joiner = Joiner(4, 6)
    change(joiner)
    return joiner


def add_parameter(joiner):
    joiner.scale = nn.Parameter(torch.ones(()))


def drop_bias(joiner):
    joiner.output = nn.Linear(4, 6, bias=False)


NOT_STANDARD = {
    "another forward": OtherForward(4, 6),
    "a module without a promise": nn.Bilinear(4, 4, 6),
    "a function": torch.add,
    "one more parameter": changed(add_parameter),
    "no bias": changed(drop_bias),
    "a weight that is computed": changed(lambda joiner: nn.utils.parametrizations.weight_norm(joiner.output)),
    "a forward in the place of its own": changed(lambda joiner: setattr(joiner.output, "forward", torch.tanh)),
    "a hook": changed(lambda joiner: joiner.output.register_forward_hook(lambda *given: None)),
}


@pytest.mark.parametrize("joiner", [Joiner(4, 6), Renamed(4, 6)], ids=["itself", "a subclass"])
def test_the_standard_joiner_is_known(joiner):
    assert linear_after_tanh(joiner) is joiner.output


@pytest.mark.parametrize("what", NOT_STANDARD)
def test_any_other_joiner_is_not(what):
    joiner, gpu = NOT_STANDARD[what], torch.device("cuda")
    assert linear_after_tanh(joiner) is None
    assert isinstance(choose_joint(joiner, PackedSettings(1, 0.0, ArcRules()), [], gpu), ChunkedJoint)
    with pytest.raises(InputError, match="loss.joint=fused: .* is not known to be tanh"):
        choose_joint(joiner, PackedSettings(1, 0.0, ArcRules(), joint="fused"), [], gpu)


@pytest.mark.parametrize(("device", "joint", "expected"), [
    ("cpu", "auto", "CompiledJoint"), ("cuda", "auto", "FusedJoint"),
    ("cpu", "fused", "FusedJoint"), ("cuda", "chunked", "ChunkedJoint"), ("cpu", "chunked", "ChunkedJoint"),
])  # fmt: skip
def test_auto_is_the_kernels_of_the_device(device, joint, expected, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    settings = PackedSettings(1, 0.0, ArcRules(), joint=joint)
    assert type(choose_joint(Joiner(4, 6), settings, [], torch.device(device))).__name__ == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_is_not_computed_in_float32_is_not_for_numba(dtype):
    joiner, cpu = Joiner(4, 6).to(torch.promote_types(dtype, torch.float32)), torch.device("cpu")
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert isinstance(choose_joint(joiner, PackedSettings(1, 0.0, ArcRules()), [], cpu), ChunkedJoint)
        with pytest.raises(InputError, match="loss.joint=numba: the kernels compute in float32, on a CPU"):
            choose_joint(joiner, PackedSettings(1, 0.0, ArcRules(), joint="numba"), [], cpu)


def test_kernels_that_cannot_run_are_refused(monkeypatch):
    settings = PackedSettings(1, 0.0, ArcRules(), joint="fused")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match="loss.joint=fused: needs a GPU, but the logits are on cpu; use joint=chunked"):
        choose_joint(Joiner(4, 6), settings, [], torch.device("cpu"))
    monkeypatch.setattr("asr.ops.lattice.paths.find_spec", lambda name: None)
    with pytest.raises(InputError, match="loss.joint=fused: triton is not installed .*; or use joint=chunked"):
        choose_joint(Joiner(4, 6), settings, [], torch.device("cuda"))


def test_without_triton_everything_else_is_imported():
    script = (
        "import sys\n"
        "for name in ('triton', 'hydra', 'lhotse', 'asr.models'):\n"
        "    sys.modules[name] = None\n"
        "import asr.ops.joint.chunked, asr.ops.joint.live, asr.losses\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
