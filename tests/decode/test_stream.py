"""Streaming: the same result as of the whole, from features and from samples."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from small_model import small_options

from asr.arcs.standard import standard_arcs
from asr.data.features import SAMPLING_RATE, make_fbank
from asr.data.tokenizer import train_tokenizer
from asr.decode.beam import BeamSearch
from asr.decode.beam_compiled import CompiledBeamSearch
from asr.decode.greedy import GreedySearch
from asr.decode.greedy_compiled import CompiledGreedySearch
from asr.decode.live import ENDPOINT_SECONDS, LiveSearch, agreed, together
from asr.decode.search import Hypothesis, search_all
from asr.decode.stream import FeatureChunks, chunk_frames, encode_in_chunks, feature_windows
from asr.errors import InputError
from asr.models.subsampling import frame_timing
from asr.models.transducer import Transducer

TOKENIZER = train_tokenizer(["AB BA", "B A"], "char")


def streaming_model(chunk=4, left=8, **changes):
    torch.manual_seed(0)
    changes = {"mel_bins": 20, **changes}
    options = small_options(causal=True, chunk_frames=[chunk], left_context=left, context_size=1, **changes)
    model = Transducer(options, TOKENIZER.vocab_size)
    torch.nn.init.normal_(model.joiner.output.weight, std=2.0)
    torch.nn.init.normal_(model.encoder_projection.weight, std=2.0)
    return model.double().eval()


SEARCHES = {
    "greedy": lambda model: GreedySearch(model, 3),
    "greedy, compiled": lambda model: CompiledGreedySearch(model, 3, standard_arcs()),
    "beam": lambda model: BeamSearch(model, 3, standard_arcs("modified")),
    "beam, compiled": lambda model: CompiledBeamSearch(
        deepcopy(model).float(), 3, standard_arcs("modified"), margin=2.0
    ),
}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("chunk", "factor"), [(1, 4), (3, 4), (8, 4), (3, 2), (3, 8)])
@torch.inference_mode()
def test_streaming_finds_what_the_whole_gives(chunk, factor, search):
    model = streaming_model(chunk, subsampling=factor)
    lengths = torch.tensor([90, 7, 41, 66]) * factor // 4 + 1
    features = torch.randn(4, int(lengths.max()), 20).double()
    whole = search_all(SEARCHES[search](model), *model.encode(features, lengths))
    session = SEARCHES[search](model).begin(4)
    for encoded, frames in encode_in_chunks(model, features, lengths, chunk):
        session.read(encoded, frames)
    found = session.best()
    assert [h[0].tokens for h in found] == [h[0].tokens for h in whole]
    assert [h[0].frames for h in found] == [h[0].frames for h in whole]
    assert any(len(h[0].tokens) > 3 for h in whole)


@pytest.mark.parametrize("frames", [7, 8, 19, 20, 35, 36, 64, 65])
@pytest.mark.parametrize("block", [1, 5, 100])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_windows_of_a_stream_are_those_of_the_whole(frames, block, factor):
    features, timing = torch.randn(frames, 8), frame_timing(factor)
    stream = FeatureChunks(4, 8, timing)
    found = [window for at in range(0, frames, block) for window in stream.add(features[at : at + block])]
    found += stream.end()
    wanted = [window for window, _ in feature_windows(features[None], torch.tensor([frames]), 4, timing)]
    assert sum(timing.length(window.shape[1]) for window in found) == max(timing.length(frames), 0)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other[:, : one.shape[1]])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_live_search_says_the_words_of_the_whole_and_takes_none_back(factor):
    model, fbank = streaming_model(subsampling=factor).float(), make_fbank(20)
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 2 * SAMPLING_RATE + 1234).astype(np.float32)
    features = torch.from_numpy(fbank.extract(samples, SAMPLING_RATE))
    with torch.inference_mode():
        encoded, frames = model.encode(features[None], torch.tensor([len(features)]))
        # As they are, the labels of random weights hardly change: take the mean away that all frames share.
        model.encoder_projection.bias -= encoded.mean((0, 1))
        model.joiner.output.weight *= 5
        whole = search_all(GreedySearch(model, 3), encoded - encoded.mean((0, 1)), frames)
        live = LiveSearch(model, GreedySearch(model, 3), TOKENIZER, fbank, 4)
        said = [one.text for at in range(0, len(samples), 3000) for one in live.add(samples[at : at + 3000])]
        said += [one.text for one in live.end()]
    assert "".join(said).split() == TOKENIZER.decode(whole[0][0].tokens).split()
    assert len([text for text in said if text.strip()]) > 3
    assert live.first_word_seconds is not None


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_live_search_ends_a_line_after_a_pause_and_forgets_it(factor):
    model, fbank = streaming_model(subsampling=factor).float(), make_fbank(20)
    found = [Hypothesis(TOKENIZER.encode("AB"), [0, 1, 2], 0.0, [1.0] * 3)]

    class Told:
        begun = 0

        def begin(self, batch):
            self.begun += 1
            return self

        def read(self, encoded, frames):
            pass

        def best(self):
            return [found if self.begun == 1 else [Hypothesis([], [], 0.0, [])]]

    search = Told()
    with torch.inference_mode():
        live = LiveSearch(model, search, TOKENIZER, fbank, 4)
        said = [together(live.add(np.zeros(SAMPLING_RATE // 10, dtype=np.float32))).text for _ in range(50)]
    assert "".join(said) == "AB \n"
    frames = next(n for n in range(4, 999, 4) if (n - found[0].frames[-1]) * model.timing.shift > ENDPOINT_SECONDS)
    assert said.index("AB \n") == math.ceil(10 * model.timing.heard(frames - 1)) - 1  # as soon as that chunk is heard
    assert search.begun > 2
    assert len(live.windows.waiting_TF) < model.timing.needed(4)
    assert len(live.fbank.waiting) < 2 * 400


@pytest.mark.parametrize("search", SEARCHES)
def test_live_search_says_that_scores_are_no_numbers(search):
    model, fbank = streaming_model().float(), make_fbank(20)
    torch.nn.init.constant_(model.joiner.output.bias, math.nan)
    with torch.inference_mode():
        live = LiveSearch(model, SEARCHES[search](model), TOKENIZER, fbank, 4)
        with pytest.raises(InputError, match="the score of what was recognised is nan"):
            list(live.add(np.zeros(SAMPLING_RATE, dtype=np.float32)))
        short = LiveSearch(model, SEARCHES[search](model), TOKENIZER, fbank, 4)
        assert not list(short.add(np.zeros(SAMPLING_RATE // 8, dtype=np.float32)))
        with pytest.raises(InputError, match="the score of what was recognised is nan"):
            list(short.end())


@pytest.mark.parametrize(("value", "message"), [(1e38, "features with NaN"), (1e12, "features with a value of")])
def test_live_search_refuses_features_that_are_not_those_of_audio(value, message):
    model, fbank = streaming_model().float(), make_fbank(20)
    samples = np.zeros(SAMPLING_RATE, dtype=np.float32)
    samples[5000] = value
    with torch.inference_mode(), pytest.raises(InputError, match=message):
        list(LiveSearch(model, GreedySearch(model, 3), TOKENIZER, fbank, 4).add(samples))


def test_only_words_that_all_hypotheses_have_are_said():
    def said(*texts):
        return agreed([Hypothesis(TOKENIZER.encode(text), [], 0.0, []) for text in texts], TOKENIZER)

    assert said("AB BA A", "AB BA B A", "AB BA B") == ["AB", "BA"]
    assert said("AB BA A", "AB BA") == ["AB"]  # BA may go on
    assert said("AB BA A", "BA BA A") == []


def test_a_character_is_said_at_once_in_scripts_without_blanks():
    tokenizer = train_tokenizer(["今天天气很好 AB"], "char")

    def said(*texts):
        return agreed([Hypothesis(tokenizer.encode(text), [], 0.0, []) for text in texts], tokenizer)

    assert said("今天天气") == ["今", "天", "天", "气"]
    assert said("今天天气", "今天气") == ["今", "天"]
    assert said("今天 A") == ["今", "天"]
    assert said("A今") == ["A", "今"]


def test_a_character_to_which_a_mark_may_come_is_said_with_it():
    thai = "\u0e17\u0e35\u0e48\u0e19\u0e35\u0e49"  # two characters, each with two marks
    tokenizer = train_tokenizer([thai], "char")
    assert agreed([Hypothesis(tokenizer.encode(thai[:1]), [], 0.0, [])], tokenizer) == []
    assert agreed([Hypothesis(tokenizer.encode(thai[:4]), [], 0.0, [])], tokenizer) == [thai[:3]]


def test_the_size_of_chunks():
    timing = frame_timing(4)
    assert chunk_frames([8, 4], None, True, timing) == 8
    assert chunk_frames([8, 4], 0.16, True, timing) == 4
    assert chunk_frames([8, 4], 0.16, True, frame_timing(2)) == 8
    assert chunk_frames([8, 4], 0.16, True, frame_timing(8)) == 2
    assert chunk_frames([8, 4], 0.0, False, timing) == 0
    assert chunk_frames([], None, False, timing) == 0
    for seconds, streaming, message in ((0.0, True, "streaming needs chunks"), (0.01, True, "at least 0.04 s")):
        with pytest.raises(InputError, match=message):
            chunk_frames([8, 4], seconds, streaming, timing)
