"""A training that begins from a trained model has its weights, and of another vocabulary those that pieces share."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from saved_runs import beginning, char_tokenizer, random_task, save_run, small_config

import asr
from asr.cli.main import main
from asr.config import (
    FullLossOptions,
    HatArcOptions,
    MultiBlankArcOptions,
    OptimizedLossOptions,
    StandardArcOptions,
    TdtArcOptions,
    TrainOptions,
)
from asr.errors import InputError
from asr.runs import state
from asr.runs.trained import checkpoint_digest, load_trained
from asr.train.begin import begin_from, differing, load_initial

OLD, NEW = char_tokenizer("ABCDEF"), char_tokenizer("FGAHB")  # share A, B, F and the space
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    config = small_config(train=TrainOptions(frame_weight=0.5))
    return save_run(tmp_path_factory.mktemp("base") / "run", OLD, config)


def begun(path, tokenizer, config=None, **options):
    """A task with fresh weights that has begun from a run, what was told of it, and the trained model."""
    config = replace(config or small_config(), train=beginning(path, **options))
    initial = load_initial(config)
    task = random_task(tokenizer, replace(config, train=replace(config.train, init="")), seed=2)
    return task, begin_from(initial, task, config, tokenizer), initial


def logits(model, pieces, features, labels):
    """Logits (T,U+1,K) of one utterance whose labels are pieces."""
    ids = torch.tensor([[pieces.index(piece) for piece in labels]])
    encoded, _ = model.encode(features, torch.tensor([features.shape[1]]))
    return model.joiner(encoded[0, :, None], model.predict(ids)[0])


def test_the_same_vocabulary_takes_all_weights_and_begins_counts_anew(base):
    task, told, initial = begun(base, OLD)
    assert all(torch.equal(value, initial.model.state_dict()[name]) for name, value in task.model.state_dict().items())
    saved = state.load(initial.last, ["objective"]).parts["objective"]
    assert all(torch.equal(value, saved[name]) for name, value in task.objective.state_dict().items())
    size = sum(v.numel() for v in task.state_dict().values() if v.is_floating_point())
    assert (told.pieces, told.parameters, told.fresh) == ((OLD.vocab_size,) * 2, (size, size), [])
    task.objective.transducer.batches += 7
    begin_from(initial, task, small_config(train=beginning(base)), OLD)
    assert int(task.objective.transducer.batches) == 7


@torch.inference_mode()
def test_logits_of_shared_pieces_are_those_of_the_trained_model(base):
    task, told, initial = begun(base, NEW, frame_weight=0.5)
    task.eval()
    features = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0))
    shared = [piece for piece in NEW.pieces if piece in OLD.pieces]
    assert sorted(shared) == sorted(["<blk>", "<unk>", "▁", "A", "B", "F"])
    assert told.pieces == (6, NEW.vocab_size)
    labels = ["A", "F", "▁", "B"]
    before, now = (
        logits(model, tokenizer.pieces, features, labels)[..., [tokenizer.pieces.index(piece) for piece in shared]]
        for model, tokenizer in ((initial.model, OLD), (task.model, NEW))
    )
    assert before.std() > 0.1
    torch.testing.assert_close(now, before, rtol=0, atol=1e-6)
    encoded = torch.randn(1, 5, 8)
    saved = state.load(initial.last, ["objective"]).parts["objective"]
    for name in ("ctc.output", "frames.output", "transducer.simple.am", "transducer.simple.lm"):
        weight, bias = (saved[f"{name}.{part}"] for part in ("weight", "bias"))
        head = task.objective.get_submodule(name)
        for piece in shared:
            expected = encoded @ weight[OLD.pieces.index(piece)] + bias[OLD.pieces.index(piece)]
            torch.testing.assert_close(head(encoded)[..., NEW.pieces.index(piece)], expected, rtol=0, atol=1e-6)


def test_rows_of_a_loss_that_is_not_known_are_not_taken_for_those_of_other_pieces():
    rows = torch.tensor([0, 2, 1])
    for by_piece, shape, is_fresh in ((rows, (3, 8), True), (rows, (4, 8), False), (rows.sort()[0], (3, 8), False)):
        tensors = {"objective.transducer.own.weight": torch.zeros(shape)}
        found = differing(tensors, tensors, {"predictor.embedding.": by_piece})
        assert [name for name, _ in found] == list(tensors) * is_fresh


def test_new_pieces_keep_their_fresh_weights(base):
    fresh = random_task(NEW, small_config(), seed=2).model.joiner.output.weight
    weight = begun(base, NEW)[0].model.joiner.output.weight
    kept = [int(torch.equal(weight[row], fresh[row])) for row in range(NEW.vocab_size)]
    assert [piece for piece, is_kept in zip(NEW.pieces, kept) if is_kept] == [p for p in NEW.pieces if p in "GH"]


@pytest.mark.parametrize(
    ("before", "now", "blank", "extra"),
    [
        (StandardArcOptions(), HatArcOptions(), False, []),
        (HatArcOptions(), HatArcOptions(), True, []),
        (StandardArcOptions(), TdtArcOptions(durations=[0, 1]), True, [None, None]),
        (TdtArcOptions(durations=[0, 1, 2, 4]), TdtArcOptions(durations=[2, 3, 1]), True, [2, None, 1]),
        (MultiBlankArcOptions(big_blanks=[2, 4]), MultiBlankArcOptions(big_blanks=[4, 8]), True, [1, None]),
        (TdtArcOptions(durations=[1, 2]), MultiBlankArcOptions(big_blanks=[2]), True, [None]),
        (MultiBlankArcOptions(big_blanks=[2]), StandardArcOptions(), True, []),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_blanks_and_durations_are_told_by_what_they_mean(tmp_path, before, now, blank, extra):
    """`extra`: which of the extra rows of before each one is."""
    path = save_run(tmp_path / "run", OLD, small_config(loss=OptimizedLossOptions(arcs=before)))
    task, _, initial = begun(path, NEW, small_config(loss=OptimizedLossOptions(arcs=now)))
    new, old = task.model.joiner.output.bias, initial.model.joiner.output.bias
    assert torch.equal(new[0], old[0]) == blank
    assert torch.equal(new[NEW.pieces.index("A")], old[OLD.pieces.index("A")])
    rows = [[n for n in range(len(old)) if torch.equal(one, old[n])] for one in new[NEW.vocab_size :]]
    assert rows == [[] if one is None else [OLD.vocab_size + one] for one in extra]


def test_what_the_objective_lacks_is_fresh_and_told(tmp_path):
    path = save_run(tmp_path / "run", OLD, small_config(loss=FullLossOptions(), train=TrainOptions(ctc_weight=0)))
    _, told, _ = begun(path, OLD)
    assert told.line().endswith(
        "; fresh: objective.transducer.simple.am, objective.transducer.simple.lm, objective.ctc.output"
    )
    assert f"digest {checkpoint_digest(str(path), 'auto')[:12]}" in told.line()
    assert f"carried over {OLD.vocab_size} of {OLD.vocab_size} pieces and 9" in told.line()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 1}, "encoder.layers.1.* of it has no place here .and 3. more tensors.*: .* model.layers=2; give"),
        ({"layers": 3}, "encoder.layers.2.* is not in it .* it was trained with model.layers=2; give the same"),
        ({"heads": 4}, r"content_bias has shape \[2, 1, 4\] in it, and \[4, 1, 2\] here .*with model.heads=2; give"),
        (
            {"predictor_dim": 5},
            "with model.predictor_dim=6; give the same, or name what is to be fresh, as in train.ini",
        ),
        ({"causal": True, "heads": 4}, "it was trained with model.heads=2; give the same"),
        ({"normalize": "none"}, "encoder.normalize.mean of it has no place here .*model.normalize=global; give"),
    ],
)
def test_another_architecture_is_told_with_the_options_that_differ(base, options, message):
    with pytest.raises(InputError, match=f"^train.init={base}: .*{message}"):
        begun(base, OLD, small_config(**options))


def test_excepted_tensors_are_fresh_whatever_their_shape(base):
    task, told, initial = begun(base, OLD, small_config(layers=3), init_except=["encoder.layers.2"])
    assert {name.rsplit(".", 2)[0][:16] for name in told.fresh} == {"encoder.layers.2"}
    trained = initial.model.state_dict()
    assert torch.equal(task.model.state_dict()["encoder.layers.1.norm.weight"], trained["encoder.layers.1.norm.weight"])
    _, told, _ = begun(base, OLD, small_config(layers=1), init_except=["encoder.layers.1", "encoder.normalize"])
    assert told.fresh == ["encoder.normalize.mean", "encoder.normalize.std"]
    assert told.needs_statistics
    with pytest.raises(
        InputError, match="train.init_except: encoder.layer.1 is no part .*did you mean encoder.layers.1"
    ):
        begun(base, OLD, init_except=["encoder.layer.1"])


def test_what_fits_and_may_be_a_mistake_is_told(tmp_path):
    path = save_run(tmp_path / "run", OLD)
    _, told, _ = begun(path, char_tokenizer("abc"), small_config(causal=True))
    assert told.pieces == (3, 6)  # the space is one
    assert [*told.doubts] == [f"model.causal=true, but false in {path}: weights compute otherwise"]
    config = small_config()
    config.loss.topology = "modified"
    _, told, _ = begun(path, OLD, config)
    assert [*told.doubts] == [
        f"loss.topology=modified, but regular in {path}: its labels will not be where it had them"
    ]


@pytest.mark.parametrize("causal", [True, False])
def test_convolutions_keep_the_taps_that_they_still_have(tmp_path, causal):
    path = save_run(tmp_path / "run", OLD, small_config(causal=not causal))
    task, _, initial = begun(path, OLD, small_config(causal=causal))
    kernel = initial.config.model.kernel_size
    frames = torch.randn(1, initial.config.model.encoder_dim, 2 * kernel)
    for old, new in zip(initial.model.encoder.layers, task.model.encoder.layers, strict=True):
        centred, past = (old, new) if causal else (new, old)
        wanted = centred.convolution.depthwise(frames)
        found = past.convolution.depthwise(torch.nn.functional.pad(frames, (kernel - 1, 0)))
        # Causal ones miss nothing where nothing is to come, centred ones at first nothing that is long past.
        same = slice(-1, None) if causal else slice(kernel // 2 + 1)
        assert torch.allclose(wanted[..., same], found[..., same], atol=1e-6)
        assert not torch.allclose(wanted, found, atol=1e-2)
    assert task.model.encoder.layers[0].convolution.depthwise.padding == ((0,) if causal else (kernel // 2,))


# As a training


@pytest.fixture(scope="module")
def corpus_options(tiny_corpus):
    return [
        *("model=debug", "data=debug", "data.max_seconds=5", "optim=debug", "train=debug", "train.steps=2"),
        *("train.validate_every=2", "train.save_every=2", "train.device=cpu", "loss=pruned"),
        *(f"data.train_cuts=[{tiny_corpus.train}]", f"data.valid_cuts=[{tiny_corpus.dev}]"),
    ]


@pytest.fixture(scope="module")
def trained(corpus_options, tiny_corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("exp") / "first"
    assert main(["train", f"run={run}", *corpus_options, f"data.tokenizer={tiny_corpus.tokenizer}"]) == 0
    return run


def test_a_training_begins_once_and_goes_on_without_what_it_began_from(
    trained, corpus_options, tmp_path, capsys, monkeypatch
):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    monkeypatch.chdir(trained.parent)
    words = ["train", f"run={run}", f"train.init={trained.name}", *corpus_options, "optim.lr=0"]
    assert main(words) == 0
    digest = checkpoint_digest(str(trained), "auto")
    assert f"digest {digest[:12]}" in (run / "train.log").read_text()
    assert json.loads((run / "init.json").read_text())["digest"] == digest
    before, now = (load_trained(str(path), "auto", CPU) for path in (trained, run))
    assert now.tokenizer.pieces == before.tokenizer.pieces
    saved = before.model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in now.model.state_dict().items())
    trained.rename(elsewhere)
    try:
        assert main([*words, "train.steps=3"]) == 0
        newest = state.resumable(run / "checkpoints")[-1]
        told = state.load(newest, []).info
        assert (told["init"], told["asr"].split(",")[0]) == (digest, asr.__version__)
        assert told["machine"].endswith(f"PyTorch {torch.__version__}")
        assert state.step_of(newest) == 3
        capsys.readouterr()
        assert main([*words, "train.steps=4", f"train.init={elsewhere}", "train.change=true"]) == 2
        assert "was begun with train.init=first, not" in capsys.readouterr().err
    finally:
        elsewhere.rename(trained)


def test_what_is_no_run_is_refused_before_anything_is_written(tmp_path, corpus_options, capsys):
    assert main(["train", f"run={tmp_path / 'run'}", f"train.init={tmp_path}", *corpus_options]) == 2
    assert capsys.readouterr().err.endswith("so it is not a run directory of `asr train`, nor a package\n")
    assert not (tmp_path / "run").exists()
    logging.getLogger("asr").handlers.clear()
    assert Path(tmp_path).is_dir()
