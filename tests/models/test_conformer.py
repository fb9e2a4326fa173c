"""What an output frame depends on: its own utterance, and no frame outside its context."""

import math

import pytest
import torch
from small_model import small_options

from asr.models import conformer
from asr.models.conformer import Conformer
from asr.models.ready import make_ready
from asr.models.subsampling import ConvSubsampling, frame_timing
from asr.ops import packing

LENGTHS = [50, 7, 8, 23, 38, 11]


@pytest.fixture(autouse=True)
def even_the_smallest_layers_pack(monkeypatch):
    monkeypatch.setattr(packing, "WORTH", -1)


def build(seed: int = 0, **changes) -> Conformer:
    torch.manual_seed(seed)
    encoder = Conformer(small_options(**changes))
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)  # biases of zero would hide padding that counts as zeros
    return encoder


@torch.no_grad()
def change_by_padding(encoder: Conformer) -> float:
    """The largest change of any utterance's output between alone and in a batch with garbage as padding, however the
    batch is laid out."""
    return max(change_in_layout(encoder, packs) for packs in (True, False))


def change_in_layout(encoder: Conformer, packs: bool) -> float:
    torch.manual_seed(1)
    features = 5 * torch.randn(len(LENGTHS), max(LENGTHS) + 9, 8)
    encoder.packs = packs
    together, frames = encoder(features, torch.tensor(LENGTHS))
    changes = []
    for b, length in enumerate(LENGTHS):
        alone, alone_frames = encoder(features[b : b + 1, :length], torch.tensor([length]))
        assert int(frames[b]) == int(alone_frames) == alone.shape[1]
        changes.append((together[b, : alone.shape[1]] - alone[0]).abs().max())
    return float(torch.stack(changes).max())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("normalize", ["global", "utterance", "none"])
@pytest.mark.parametrize("context", [(-1, -1), (3, 2), (2, 0), (-1, 1)])
def test_padding_never_changes_an_utterance(normalize, context, training):
    encoder = build(normalize=normalize, left_context=context[0], right_context=context[1]).train(training)
    assert change_by_padding(encoder) <= 1e-5


@pytest.mark.parametrize("left", [-1, 0, 2, 5])
@pytest.mark.parametrize("chunk", [0, 1, 3, 4])
def test_padding_never_changes_an_utterance_read_in_chunks(chunk, left):
    assert change_by_padding(build(causal=True, chunk_frames=[chunk], left_context=left)) <= 1e-5


@pytest.mark.parametrize(
    ("module", "name", "broken"),
    [
        ("conformer", "attention_mask", lambda lengths, frames, *_: torch.ones(len(lengths), frames, frames).bool()),
        ("conformer", "valid_frames", lambda lengths, frames: torch.ones(len(lengths), frames).bool()),
        ("normalize", "valid_frames", lambda lengths, frames: torch.ones(len(lengths), frames).bool()),
    ],
)
def test_padding_that_counts_is_noticed(monkeypatch, module, name, broken):
    monkeypatch.setattr(f"asr.models.{module}.{name}", broken)
    assert change_by_padding(build(normalize="utterance")) > 1e-2


def outputs_and_gradients(encoder: Conformer, packs: bool) -> list[torch.Tensor]:
    """Every utterance's output, the gradients of a loss of it by features and weights, and what its padding holds."""
    torch.manual_seed(1)
    features = torch.randn(len(LENGTHS), max(LENGTHS), 8, dtype=torch.float64, requires_grad=True)
    encoder.packs = packs
    torch.manual_seed(1)
    out, frames = encoder(features, torch.tensor(LENGTHS))
    used = torch.arange(out.shape[1]) < frames[:, None]
    loss = (out[used] ** 3).sum()
    return [out[used].detach(), *torch.autograd.grad(loss, [features, *encoder.parameters()]), out[~used].detach()]


@pytest.mark.parametrize(
    "changes", [{"dropout": 0.3}, {"left_context": 3, "right_context": 2}, {"causal": True, "chunk_frames": [3]}]
)
def test_utterances_laid_end_to_end_have_the_outputs_and_gradients_of_padded_ones(changes):
    encoder = build(**changes).double()
    (*packed, padding), (*padded, _) = (outputs_and_gradients(encoder, packs) for packs in (True, False))
    for one, other in zip(packed, padded):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert not padding.any()
    assert padding.numel()


def test_utterances_are_laid_end_to_end_where_that_saves_time(monkeypatch):
    monkeypatch.undo()
    assert packing.is_worth_it([100, 150, 200], 192)
    assert not packing.is_worth_it([197, 198, 200], 192)  # hardly any padding
    assert not packing.is_worth_it([40, 50, 60], 96)  # narrow layers
    assert not packing.is_worth_it([1000], 512)  # none


def test_nothing_is_computed_for_padding_where_utterances_are_laid_end_to_end():
    rows = []
    encoder = build()
    encoder.layers[0].feedforward_in.register_forward_hook(lambda module, inputs, out: rows.append(out[..., 0].numel()))
    _, frames = encoder(torch.randn(len(LENGTHS), max(LENGTHS), 8), torch.tensor(LENGTHS))
    assert rows == [int(frames.sum())]


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_the_timing_of_a_subsampling_is_what_it_does(factor):
    """Every frame reads the features that `timing` says, no others; and there are as many frames."""
    subsampling = ConvSubsampling(mel_bins=40, channels=32, dim=2, dropout=0.0, factor=factor)
    timing = subsampling.timing
    assert timing == frame_timing(factor)
    assert (timing.length(timing.window - 1), timing.length(timing.window)) == (0, 1)
    for frames in range(timing.window, timing.needed(3) + factor):
        out, lengths = subsampling(torch.zeros(1, frames, 40), torch.tensor([frames]))
        assert out.shape[1] == int(lengths) == timing.length(frames)
    assert [timing.length(timing.needed(n) - 1) for n in range(1, 9)] == list(range(8))
    features = torch.randn(1, timing.needed(4), 40, requires_grad=True)
    out, _ = subsampling(features, torch.tensor([timing.needed(4)]))
    for t in range(4):
        gradient = torch.autograd.grad(out[0, t].square().sum(), features, retain_graph=True)[0]
        touched = gradient[0].any(dim=-1).nonzero()[:, 0]
        assert (int(touched.min()), int(touched.max())) == (factor * t, factor * t + timing.window - 1)


def test_the_weights_of_four_frames_to_one_have_the_names_that_checkpoints_have():
    shapes = {name: tuple(one.shape) for name, one in ConvSubsampling(80, 32, 16, 0.0).state_dict().items()}
    assert shapes == {
        "convolutions.0.weight": (8, 1, 3, 3),
        "convolutions.0.bias": (8,),
        "convolutions.2.weight": (32, 8, 3, 3),
        "convolutions.2.bias": (32,),
        "project.weight": (16, 32 * 19),
        "project.bias": (16,),
    }


@pytest.mark.parametrize(
    ("left", "right", "kernel", "layers"), [(0, 0, 1, 1), (2, 1, 3, 1), (1, 0, 1, 2), (1, 2, 3, 2), (0, 3, 5, 1)]
)
def test_gradient_is_confined_to_the_receptive_field(left, right, kernel, layers):
    sizes = {"kernel_size": kernel, "layers": layers, "subsampling_channels": 32}  # enough that some ReLU is alive
    encoder = build(normalize="none", left_context=left, right_context=right, **sizes).double()
    features = torch.randn(1, 90, 8, dtype=torch.float64, requires_grad=True)
    out, frames = encoder(features, torch.tensor([90]))
    past, future = (layers * (context + kernel // 2) for context in (left, right))
    for t in (0, 9, int(frames) - 1):
        gradient = torch.autograd.grad(out[0, t].square().sum(), features, retain_graph=True)[0]
        touched = gradient[0].any(dim=-1).nonzero()[:, 0]
        first, last = max(t - past, 0), min(t + future, int(frames) - 1)
        assert (int(touched.min()), int(touched.max())) == (4 * first, 4 * last + 6)


def test_unlimited_context_sees_the_whole_utterance_and_nothing_else():
    encoder = build()
    features = torch.randn(1, 60, 8, requires_grad=True)
    out, frames = encoder(features, torch.tensor([51]))
    out[0, 0].square().sum().backward()
    touched = features.grad[0].any(dim=-1).nonzero()[:, 0]
    assert (int(touched.min()), int(touched.max())) == (0, 4 * (int(frames) - 1) + 6)


def test_order_in_the_batch_does_not_matter():
    encoder = build().eval()
    features, lengths = torch.randn(3, 40, 8), torch.tensor([40, 17, 29])
    out, frames = encoder(features, lengths)
    flipped, flipped_frames = encoder(features.flip(0), lengths.flip(0))
    assert torch.equal(frames, flipped_frames.flip(0))
    for b, length in enumerate(frames):
        torch.testing.assert_close(flipped.flip(0)[b, :length], out[b, :length], rtol=0, atol=1e-5)


def test_layer_is_residual():
    """With every module silenced, what is left is the last layer norm."""
    layer = conformer.ConformerLayer(small_options())
    for module in (layer.feedforward_in, layer.feedforward_out):
        torch.nn.init.zeros_(module[4].weight)
        torch.nn.init.zeros_(module[4].bias)
    for module in (layer.attention, layer.convolution):
        torch.nn.init.zeros_(module.output.weight)
        torch.nn.init.zeros_(module.output.bias)
    x = torch.randn(1, 6, 8)
    valid = torch.ones(1, 6, dtype=torch.bool)
    positions, nothing = conformer.relative_positions(6, 6, 8, x.device), torch.zeros(1, 0, 8)
    out, *_ = layer(x, positions, valid[:, None].expand(1, 6, 6), valid, (nothing, nothing))
    torch.testing.assert_close(out, torch.nn.functional.layer_norm(x, (8,)))


@pytest.mark.parametrize(
    ("chunk", "left", "layers"), [(1, -1, 1), (1, 3, 2), (4, -1, 2), (4, 0, 1), (4, 2, 1), (4, 2, 2)]
)
def test_nothing_is_seen_beyond_a_chunk_or_too_far_before_it(chunk, left, layers):
    sizes = {"kernel_size": 3, "layers": layers, "subsampling_channels": 32}
    encoder = build(normalize="none", causal=True, chunk_frames=[chunk], left_context=left, **sizes).double()
    features = torch.randn(1, 90, 8, dtype=torch.float64, requires_grad=True)
    out, frames = encoder(features, torch.tensor([90]))
    for t in (0, 9, int(frames) - 1):
        gradient = torch.autograd.grad(out[0, t].square().sum(), features, retain_graph=True)[0]
        touched = gradient[0].any(dim=-1).nonzero()[:, 0]
        first = t
        for _ in range(layers):  # attention reads what the layer before put out; the convolution, what attention did
            start = max(first - 2, 0) // chunk * chunk
            first = 0 if left < 0 else max(min(start - left, first - 2), 0)
        last = min(t // chunk * chunk + chunk - 1, int(frames) - 1)
        assert (int(touched.min()), int(touched.max())) == (4 * first, 4 * last + 6)


def read_in_chunks(encoder: Conformer, features: torch.Tensor, lengths: torch.Tensor, chunk: int) -> torch.Tensor:
    """The output (B,T',D) of an encoder that is given `chunk` frames after subsampling at a time."""
    state, parts, timing = None, [], encoder.timing
    for begin in range(0, timing.length(features.shape[1]), chunk):
        first = timing.factor * begin
        window = features[:, first : first + timing.needed(chunk)]
        part, _, state = encoder.forward_chunk(window, (lengths - first).clamp(0, window.shape[1]), state)
        parts.append(part)
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("left", [-1, 0, 2, 5])
@pytest.mark.parametrize("chunk", [1, 2, 4, 7, 100])
@torch.no_grad()
def test_reading_in_chunks_gives_the_output_of_the_whole(chunk, left):
    encoder = build(causal=True, chunk_frames=[chunk], left_context=left, kernel_size=5).double().eval()
    lengths = torch.tensor(LENGTHS)
    features = torch.randn(len(LENGTHS), max(LENGTHS), 8, dtype=torch.float64)
    whole, frames = encoder(features, lengths)
    found = read_in_chunks(encoder, features, lengths, chunk)
    for b, length in enumerate(frames):
        torch.testing.assert_close(found[b, :length], whole[b, :length], rtol=0, atol=1e-9)
    other, _ = encoder(features, lengths, chunk + 1)
    if chunk < 100:
        assert (other - whole).abs().max() > 1e-2


@pytest.mark.parametrize("known", [3, 100])
@torch.no_grad()
def test_an_encoder_that_is_made_ready_encodes_the_same(known, monkeypatch):
    monkeypatch.setattr("asr.models.ready.KNOWN_FRAMES", known)
    encoder, features = build(layers=1).eval(), torch.randn(1, 50, 8)
    names = list(encoder.state_dict())
    plain, frames = encoder(features, torch.tensor([50]))
    make_ready(encoder)
    if known > int(frames):
        encoder.layers[0].attention.position.weight.fill_(math.nan)  # which is read no more
    torch.testing.assert_close(encoder(features, torch.tensor([50]))[0], plain)
    assert encoder.layers[0].feedforward_in[1].weight.stride()[0] == 1
    assert list(encoder.state_dict()) == names


def test_training_draws_sizes_of_chunks_and_evaluation_takes_the_first():
    encoder = build(causal=True, chunk_frames=[4, 1, 0])
    torch.manual_seed(0)
    assert {encoder.train().choose_chunk() for _ in range(50)} == {4, 1, 0}
    assert {encoder.eval().choose_chunk() for _ in range(5)} == {4}
    assert build().train().choose_chunk() == 0


def gradients_and_saved_bytes(**changes):
    """Gradients of a step with dropout, the random number that follows it, and what the forward kept for it."""
    torch.manual_seed(0)
    encoder = Conformer(small_options(dropout=0.3, layers=4, **changes)).train()
    features, lengths = torch.randn(3, 60, 8), torch.tensor([60, 41, 33])
    saved = {}

    def note(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out, _ = encoder(features, lengths)
    out.square().sum().backward()
    return [p.grad for p in encoder.parameters()], torch.rand(()), sum(saved.values())


def test_layers_that_are_computed_again_have_the_same_gradients_from_less_memory():
    plain, after, kept = gradients_and_saved_bytes()
    again, after_again, kept_again = gradients_and_saved_bytes(checkpoint_layers=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, again))
    assert torch.equal(after, after_again)
    assert kept_again < kept / 3
