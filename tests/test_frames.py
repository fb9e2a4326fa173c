"""How an encoder's frames lie in time is said in one place: with another subsampling, whatever has to do with time
follows it.

Each test asks something else that knows frames, for encoders that make one frame of 2 and of 8, and the numbers are
written out: frame t of the former has its middle at (2t + 1.5) · 10 ms, of the latter at (8t + 7.5) · 10 ms.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lhotse import CutSet
from lhotse.supervision import AlignmentItem
from small_model import small_options

from asr.align.trained import TrainedAligner
from asr.config import GreedyOptions, TrainConfig
from asr.data.audio import FbankStream
from asr.data.batch import Batch
from asr.data.dataset import Draw, SpeechDataset
from asr.data.features import SAMPLING_RATE, frame_count, make_fbank
from asr.data.memory import BatchSize, Measure
from asr.data.sampler import Admission
from asr.data.tokenizer import load_tokenizer
from asr.decode.decoder import Decoder
from asr.decode.search import Hypothesis
from asr.decode.words import BEFORE_SECONDS
from asr.errors import InputError
from asr.losses import make
from asr.models.subsampling import frame_timing
from asr.models.transducer import Transducer
from asr.plot.lattice import draw_lattice, view_lattice
from asr.runs.trained import Trained
from asr.score.delay import first_word_latencies
from asr.score.wer import Utterance
from asr.train.preflight import noise_batch
from asr.train.task import stand_in

CPU = torch.device("cpu")
factors = pytest.mark.parametrize("factor", [2, 8])


def middle(factor: int, frame: int) -> float:
    """Of a frame, seconds."""
    return {2: 2 * frame + 1.5, 8: 8 * frame + 7.5}[factor] * 0.01


def model_of(factor: int, vocab_size: int, **changes) -> Transducer:
    torch.manual_seed(0)
    return Transducer(small_options(mel_bins=20, subsampling=factor, **changes), vocab_size).eval()


def decoder_of(factor: int, tokenizer, chunk_seconds: float | None = None, streaming: bool = False) -> Decoder:
    changes = {"causal": True, "chunk_frames": [4]}
    model = model_of(factor, tokenizer.vocab_size, **changes)
    torch.nn.init.normal_(model.joiner.output.weight, std=3.0)
    config = TrainConfig(run="x", model=small_options(mel_bins=20, subsampling=factor, **changes))
    options = GreedyOptions(chunk_seconds=chunk_seconds)
    return Decoder(Trained(model, tokenizer, config, "x"), options, CPU, streaming)


@pytest.fixture(scope="module")
def tokenizer(tiny_corpus):
    return load_tokenizer(tiny_corpus.tokenizer)


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_a_time_belongs_to_the_frame_whose_middle_is_nearest(factor):
    timing = frame_timing(factor)
    for frame in range(100):
        inside = 0.499 * timing.shift
        assert [timing.at(timing.middle(frame) + by) for by in (-inside, 0.0, inside)] == [frame] * 3
        assert timing.begin(frame) == pytest.approx(timing.middle(frame) - timing.shift / 2)


@factors
def test_a_frame_is_heard_with_the_last_sample_that_its_features_need(factor):
    timing, fbank = frame_timing(factor), make_fbank(20)
    for frame in (0, 1, 5):
        samples = np.zeros(round(timing.heard(frame) * SAMPLING_RATE), dtype=np.float32)
        assert [timing.length(len(FbankStream(fbank).add(some))) for some in (samples, samples[:-1])] == [
            frame + 1,
            frame,
        ]


@factors
def test_tokens_are_said_in_the_middle_of_their_frames(factor, tiny_corpus, tokenizer):
    decoder = decoder_of(factor, tokenizer)
    found = [[Hypothesis(tokenizer.encode("LOW"), [0, 1, 2, 5], 0.0, [1.0] * 4)]]
    decoder.search = SimpleNamespace(
        begin=lambda _: SimpleNamespace(read=lambda *_: None, best=lambda: found, joined=int)
    )
    ((one,),) = list(decoder(CutSet.from_cuts(list(CutSet.from_file(tiny_corpus.dev))[:1])))
    assert one.times == pytest.approx([middle(factor, frame) for frame in (0, 1, 2, 5)])


@factors
def test_a_stream_has_the_tokens_and_times_of_the_whole(factor, tiny_corpus, tokenizer):
    cuts = CutSet.from_file(tiny_corpus.dev)
    whole, streamed = (decoder_of(factor, tokenizer, 0.16, streaming) for streaming in (False, True))
    assert whole.chunk == streamed.chunk == {2: 8, 8: 2}[factor]
    found = [[(one.id, one.tokens, one.times) for (one,) in decoder(cuts)] for decoder in (whole, streamed)]
    assert found[0] == found[1]
    assert sum(len(tokens) for _, tokens, _ in found[0]) > 6


def test_an_encoder_in_bfloat16_gives_the_search_float32_that_is_near(tiny_corpus, tokenizer):
    exact = decoder_of(8, tokenizer)
    decoder = Decoder(exact.trained, GreedyOptions(precision="bfloat16"), CPU)
    batch = next(exact.batches(CutSet.from_file(tiny_corpus.dev)))
    with torch.inference_mode():
        ((wanted, frames),), ((found, found_frames),) = exact.encode(batch), decoder.encode(batch)
    assert found.dtype == torch.float32
    assert torch.equal(frames, found_frames)
    assert 0 < (found - wanted).norm() < 0.05 * wanted.norm()


@factors
def test_labels_are_aligned_to_the_frames_of_their_times(factor, tiny_corpus, tokenizer):
    cut = next(iter(CutSet.from_file(tiny_corpus.dev)))
    words = cut.supervisions[0].text.split()
    items = [AlignmentItem(word, 0.3 * n, 0.3) for n, word in enumerate(words)]
    cut.supervisions[0].alignment = {"word": items}
    batch = SpeechDataset(20, frame_timing(factor), tokenizer)[Draw([cut])]
    ends = [item.start + 0.3 * n / (len(item.symbol) + 1) for item in items for n in range(1, len(item.symbol) + 2)]
    for frame, end in zip(batch.alignment[0].tolist(), ends, strict=True):
        assert abs(middle(factor, frame) - end) <= factor * 0.005 + 1e-9 or frame == 0


@factors
def test_an_alignment_by_a_model_has_the_times_of_its_frames(factor, tiny_corpus, tokenizer, monkeypatch):
    cut = next(iter(CutSet.from_file(tiny_corpus.dev)))
    task = SimpleNamespace(objective=SimpleNamespace(ctc=None), parameters=lambda: iter([torch.zeros(1)]))
    aligner = TrainedAligner(task, SpeechDataset(20, frame_timing(factor), tokenizer), "transducer")
    monkeypatch.setattr(aligner, "frames_of_labels", lambda batch: [(n, n) for n in range(batch.labels.shape[1])])
    (found,) = aligner([cut])
    last = len(cut.supervisions[0].text.split()[0])  # the frame of the first word's last letter; the next mark follows
    begin = max(middle(factor, last + 2) - BEFORE_SECONDS, middle(factor, last))
    assert found.words[1].start == pytest.approx(begin, abs=1e-3)


@factors
def test_the_picture_of_a_lattice_lies_where_its_frames_do(factor):
    loss = make("full", vocab_size=5, encoder_dim=8, predictor_dim=8)
    labels, lengths = torch.tensor([[2, 3, 4]]), torch.tensor([3])
    features, feature_frames = torch.randn(1, 70, 20), torch.tensor([70])
    batch = Batch(["a"], ["ABC"], features, feature_frames, labels, lengths, 0.7, torch.tensor([[0, 1, 2]]))
    view = view_lattice(model_of(factor, 5), loss, batch, ["<blk>", "<unk>", "A", "B", "C"], 1, 2, 2)
    axis = draw_lattice(view, "title").axes[0]
    begin, end = axis.images[0].get_extent()[:2]
    frames = len(view.occupation_TU)
    assert frames == {2: 34, 8: 7}[factor]
    assert begin == pytest.approx(middle(factor, 0) - factor * 0.005)
    assert end == pytest.approx(middle(factor, frames - 1) + factor * 0.005)
    assert axis.patches[0].get_data().edges == pytest.approx(np.linspace(begin, end, frames + 1))


@factors
def test_the_first_word_is_known_once_its_chunk_has_been_heard(factor):
    timing, words = frame_timing(factor), {"a": [AlignmentItem("YES", 0.1, 0.0812)]}
    said = [Utterance("a", "", "YES", ("\u2581YES",), (middle(factor, 5),))]
    line = first_word_latencies(said, words, {"a": 9.0}, 4, timing)
    last_feature = {2: 2 * 7 + 2, 8: 8 * 7 + 14}[factor]  # of the second chunk of 4 frames
    heard = (last_feature + 0.5) * 0.01 + 0.0125
    assert line.startswith(f"first word: known {heard - 0.1812:.3f} s after its end")


@factors
def test_what_is_too_short_for_its_labels_is_known_before_it_is_read(factor, tiny_corpus, tokenizer):
    cut = next(iter(CutSet.from_file(tiny_corpus.dev)))
    frames = model_of(factor, 5).encode(torch.zeros(1, frame_count(cut), 20), torch.tensor([frame_count(cut)]))[1]
    timing = frame_timing(factor)
    assert Measure(timing, tokenizer)([cut]).frames == int(frames)
    cut.supervisions[0].text = "LOW " * 40
    reason = Admission(tokenizer, 0.1, 30.0, timing, ctc=False, modified=True).reason_against(cut)
    assert reason.startswith(f"160 labels need 160 frames, the encoder gives {int(frames)}")


@factors
def test_the_shortest_utterances_are_long_enough_for_the_encoder(factor, tiny_corpus):
    model, timing = model_of(factor, 5), frame_timing(factor)
    size = BatchSize(2, 9, 3)
    noise = noise_batch(size, 20, 5, model.timing)
    assert model.encode(noise.features, noise.feature_frames)[1].tolist() == [9, 9]
    silence = stand_in(noise, timing.window)
    assert model.encode(silence.features, silence.feature_frames)[1].tolist() == [1]
    cut = next(iter(CutSet.from_file(tiny_corpus.dev)))
    dataset = SpeechDataset(20, timing)
    for frames, skipped in ((timing.window - 1, 1), (timing.window, 0)):
        short = cut.drop_supervisions().truncate(duration=0.01 * frames)
        assert len(dataset[Draw([short])].skipped) == skipped


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subsampling": 6}, "model.subsampling=6 is no power of two: give 2, 4, 8 or 16"),
        ({"subsampling": 8, "mel_bins": 14}, "model.subsampling=8 needs model.mel_bins=15 or more, and there are 14"),
    ],
)
def test_a_subsampling_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Transducer(small_options(**{"mel_bins": 20, **changes}), 5)
