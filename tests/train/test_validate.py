"""Validation: error rate and emission delay of what a search finds."""

import pytest
import torch
from lhotse.supervision import AlignmentItem

from asr.data.batch import Batch, Skipped
from asr.data.tokenizer import train_tokenizer
from asr.decode.search import Hypothesis, recognised
from asr.losses.base import LossOutput, check_finite
from asr.models.subsampling import frame_timing
from asr.runs.state import interval_of
from asr.score.wer import Utterance, score
from asr.train.observe import described
from asr.train.validate import Validation, validate

TIMING = frame_timing(4)

CPU = torch.device("cpu")


class Task(torch.nn.Module):
    """Loses 2 nats on every utterance, but NaN on `hard` ones; `checked`, as transducer losses are."""

    def __init__(self, hard=(), checked=True):
        super().__init__()
        self.hard, self.checked = hard, checked

    def forward(self, batch):
        losses = torch.tensor([float("nan") if name in self.hard else 2.0 for name in batch.ids])
        out = LossOutput(losses, {}, 0, 0)
        if self.checked:
            check_finite(out)
        return out


class Found:
    """A decoder that finds what it is told to, in batches of no other size."""

    short = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmuch")

    def __init__(self, tokenizer, hypotheses):
        self.tokenizer, self.hypotheses = tokenizer, hypotheses

    def decode(self, batch):
        if len(batch) != len(self.hypotheses):
            raise self.short
        return list(recognised(batch, [[one] for one in self.hypotheses], self.tokenizer, TIMING))


def test_delays_are_of_utterances_with_times():
    tokenizer = train_tokenizer(["NO YES NO", "YES NO"], "char")
    texts = ["NO YES", "YES NO"]
    labels = [tokenizer.encode(text) for text in texts]
    times = [AlignmentItem("NO", 0.0, 0.3), AlignmentItem("YES", 1.0, 0.4)]
    batch = Batch(
        ids=["a", "b"],
        texts=texts,
        features=torch.zeros(2, 5, 1),
        feature_frames=torch.tensor([5, 5]),
        labels=torch.tensor(labels),
        label_lengths=torch.tensor([7, 7]),
        seconds=1.0,
        words=[times, []],
    )
    frames = [2, 5, 8, 30, 32, 34, 36]
    wrong = tokenizer.encode("YES YES")
    found = [
        Hypothesis(labels[0], frames, 0.0, [1.0] * 7),
        Hypothesis(wrong, list(range(len(wrong))), 0.0, [1.0] * len(wrong)),
    ]
    validation = validate(Task(), [batch], Found(tokenizer, found), CPU)
    utterances = validation.utterances
    ends = [0.1, 0.2, 0.3, 1.1, 1.2, 1.3, 1.4]
    late = [TIMING.middle(frame) - end for frame, end in zip(frames, ends, strict=True)]
    counts = {"utterances": 2, "words": 4, "errors": 1, "skipped": 0, "no_loss": 0}
    assert validation.measure() == pytest.approx(
        {"loss": 4 / 14, "wer": 25.0, "delay": sum(late) / 7, "last_delay": late[-1], **counts}
    )
    assert [one.hypothesis for one in utterances] == ["NO YES", "YES YES"]
    assert utterances[0].tokens == ("\u2581", "N", "O", "\u2581", "Y", "E", "S")
    assert utterances[0].times == tuple(round(TIMING.middle(frame), 3) for frame in frames)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["NO YES NO", "YES NO"], "char")


def make_batch(tokenizer, ids, skipped=()):
    labels = tokenizer.encode("NO")
    return Batch(
        ids=[*ids],
        texts=["NO"] * len(ids),
        features=torch.zeros(len(ids), 5, 1),
        feature_frames=torch.full((len(ids),), 5),
        labels=torch.tensor([labels] * len(ids)),
        label_lengths=torch.full((len(ids),), len(labels)),
        seconds=1.0,
        words=[[] for _ in ids],
        skipped=[*skipped],
    )


def found(tokenizer, *texts):
    """A decoder that finds these texts."""
    tokens = [tokenizer.encode(text) for text in texts]
    return Found(tokenizer, [Hypothesis(one, list(range(len(one))), 0.0, [1.0] * len(one)) for one in tokens])


@pytest.mark.parametrize("checked", [True, False])
def test_an_utterance_whose_loss_is_not_finite_is_named_and_scored_and_not_averaged(tokenizer, checked):
    batch = make_batch(tokenizer, "abc")
    texts = found(tokenizer, "NO", "YES", "NO")
    result = validate(Task("b", checked), [batch], texts, CPU)
    assert result.no_loss == [Skipped("b", "its loss is NaN or infinite")]
    labels = len(tokenizer.encode("NO"))
    assert result.measure() == pytest.approx(
        {"loss": 4 / (2 * labels), "wer": 100 / 3, "words": 3, "errors": 1, "utterances": 3, "skipped": 0, "no_loss": 1}
    )


def test_what_has_no_loss_is_scored_and_what_could_not_be_read_is_counted(tokenizer):
    batches = [
        make_batch(tokenizer, "ab", [Skipped("c", "no audio")]),
        make_batch(tokenizer, "", [Skipped("d", "no audio")]),
    ]
    texts, why = found(tokenizer, "NO", "YES YES"), {"a": "too long", "b": "too strange"}
    result = validate(Task("ab"), batches, texts, CPU, without_loss=why)
    assert result.no_loss == [Skipped("a", "too long"), Skipped("b", "too strange")]
    assert [one.id for one in result.skipped] == ["c", "d"]
    expected = {"wer": 100.0, "words": 2, "errors": 2, "utterances": 2, "skipped": 2, "no_loss": 2}
    assert result.measure() == pytest.approx(expected)


@pytest.mark.parametrize(
    "short",
    [Found.short, MemoryError(), RuntimeError("could not create a primitive"), RuntimeError("can't allocate memory")],
)
def test_utterances_that_do_not_fit_together_are_recognised_alone(tokenizer, short):
    one_fits = found(tokenizer, "NO")
    one_fits.short = short
    result = validate(Task(), [make_batch(tokenizer, "abc")], one_fits, CPU)
    assert [(one.id, one.hypothesis) for one in result.utterances] == [("a", "NO"), ("b", "NO"), ("c", "NO")]
    assert result.skipped == []


def test_a_fault_of_the_program_is_none_of_an_utterance(tokenizer):
    faulty = found(tokenizer, "NO")
    faulty.short = RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        validate(Task(), [make_batch(tokenizer, "abc")], faulty, CPU)


def test_an_utterance_that_does_not_fit_alone_is_skipped_by_name(tokenizer):
    nothing_fits = found(tokenizer, "NO", "NO", "NO")
    result = validate(Task(), [make_batch(tokenizer, "ab")], nothing_fits, CPU)
    assert result.skipped == [Skipped("a", "too little memory"), Skipped("b", "too little memory")]
    assert result.measure() == {"utterances": 0, "skipped": 2, "no_loss": 0}


def test_what_the_decoder_skips_is_skipped_and_has_no_loss_to_be_averaged(tokenizer):
    class Picky(Found):
        def decode(self, batch):
            found = super().decode(batch)
            return [Skipped("b", "its score is NaN") if one[0].id == "b" else one for one in found]

    tokens = tokenizer.encode("NO")
    hypothesis = Hypothesis(tokens, list(range(len(tokens))), 0.0, [1.0] * len(tokens))
    result = validate(Task("b"), [make_batch(tokenizer, "abc")], Picky(tokenizer, [hypothesis] * 3), CPU)
    assert result.skipped == [Skipped("b", "its score is NaN")]
    assert [one.id for one in result.utterances] == ["a", "c"]
    assert (result.no_loss, result.labels) == ([], 2 * len(tokens))


@pytest.mark.parametrize("unit", ["word", "char"])
def test_a_validation_tells_what_holds_its_rate(unit):
    utterances = [Utterance(str(n), "a b", "a" if n < 3 else "a b") for n in range(20)]
    metrics = Validation(utterances, unit=unit).measure()
    held, name = score(utterances, unit).interval, {"word": "wer", "char": "cer"}[unit]
    assert (metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"]) == (7.5, *held)
    assert interval_of(metrics) == held
    counted = {"word": "words", "char": "characters"}[unit]
    assert described(metrics) == f"loss 0.000  {name.upper()} 7.50 % (3 of 40 {counted}) 95 % {held}"
    few = Validation(utterances[:9], unit=unit).measure()
    assert (interval_of(few), described(few)) == (None, f"loss 0.000  {name.upper()} 16.67 % (3 of 18 {counted})")
