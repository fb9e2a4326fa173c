#!/usr/bin/env python3
"""How long searches take on the encoder output of a test set, and how many frames they join.

    python scripts/bench_decode.py recipes/an4/exp/transducer recipes/an4/data/aligned/cuts_test.jsonl.gz

Features and encoder run once, in batches as in `asr decode`; each search then reads what the encoder gave. Medians of
--repeats, all in one process, in turns. Models of any arcs; where these are the standard ones, a loop over utterances
and frames is timed, too. Searches are timed as they are compiled and as they are written for GPUs, greedy search also
with one utterance a batch. --lm FILE.arpa: greedy search, with its readings and with one, and a beam of 8 also with
this n-gram, whose tables the first run fills, which is not counted. --cpu: seconds of the processor, where a machine
has other work.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor

from asr.config import BeamOptions, DecodeOptions, GreedyOptions
from asr.data.manifest import open_cuts
from asr.decode.beam import BeamSearch
from asr.decode.beam_compiled import CompiledBeamSearch
from asr.decode.decoder import Decoder
from asr.decode.greedy import GreedySearch
from asr.decode.greedy_compiled import CompiledGreedySearch
from asr.decode.make import make_search
from asr.decode.search import Search
from asr.models.transducer import Transducer
from asr.runs.trained import Trained, load_trained

CPU = torch.device("cpu")
Encoded = list[tuple[Tensor, Tensor]]
Clock = Callable[[], float]


def main() -> None:
    """Measure and print."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu else time.perf_counter
    trained = load_trained(options.run, "average", CPU)
    encoded, audio, seconds = encode_all(trained, options)
    print(f"features and encoder: {seconds:.2f} s for {audio:.0f} s of audio, {options.threads} threads")
    if trained.config.loss.arcs.name == "standard":
        time_loop(trained, encoded, options.repeats, clock)
    frames = sum(int(frames_B.sum()) for _, frames_B in encoded)
    chosen = searches(trained, options)
    work = {}
    for name, search in chosen.items():
        batches = alone(encoded) if "one by one" in name else encoded
        work[name] = functools.partial(search_batches, search, batches)
    taken = in_turns(work, options.repeats, clock)
    for name, search in chosen.items():
        whole = taken[name] + seconds
        print(
            f"{name}: {taken[name]:.4f} s, {taken[name] / taken['greedy']:.2f} times greedy's, "
            f"{search_batches(search, encoded) / frames:.2f} frames joined per frame; "
            f"{100 * taken[name] / whole:.1f} % of the whole, "
            f"which takes {whole / (taken['greedy'] + seconds):.2f} times greedy's"
        )


def searches(trained: Trained, options: argparse.Namespace) -> dict[str, Search]:
    """What is timed, greedy search first."""
    beams = () if options.greedy else (2, 4, 8)
    chosen: dict[str, DecodeOptions] = {"greedy": GreedyOptions(), "greedy, one by one": GreedyOptions()}
    if options.lm:
        chosen |= {"greedy with lm": GreedyOptions(lm=options.lm)}
        chosen |= {"greedy with lm, one reading": GreedyOptions(lm=options.lm, readings=1)}
    chosen |= {f"beam {k}": BeamOptions(beam=k) for k in beams}
    if options.lm and beams:
        chosen |= {"beam 8 with lm": BeamOptions(beam=8, lm=options.lm)}
    config = trained.config
    found = {name: make_search(one, trained.model, config.loss, trained.tokenizer) for name, one in chosen.items()}
    for name, one in list(found.items()):
        written = as_written(one)
        if written:
            found[f"{name}, not compiled"] = written
    return found


def as_written(search: Search) -> Search | None:
    """A compiled search as it is written for GPUs; None of one that is not compiled."""
    if isinstance(search, CompiledGreedySearch):
        return GreedySearch(search.model, search.max_symbols_per_frame, search.arcs, search.scorers)
    if isinstance(search, CompiledBeamSearch):
        limits = search.limits
        return BeamSearch(search.model, limits.beam, search.arcs, limits.symbols, search.scorers, margin=limits.margin)
    return None


def alone(encoded: Encoded) -> Encoded:
    """The same with a batch for each utterance."""
    return [
        (rows_BTJ[b : b + 1, : frames_B[b]].contiguous(), frames_B[b : b + 1])
        for rows_BTJ, frames_B in encoded
        for b in range(len(frames_B))
    ]


def time_loop(trained: Trained, encoded: Encoded, repeats: int, clock: Clock) -> None:
    """Time greedy search without batches, and print it."""
    limit = 5 if trained.config.loss.topology == "regular" else 1
    labels = sum(len(tokens) for tokens in loop(trained.model, encoded, limit))
    (seconds,) = in_turns({"": lambda: loop(trained.model, encoded, limit)}, repeats, clock).values()
    print(f"loop over utterances and frames: {seconds:.3f} s, {labels} labels")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory of `asr train`")
    parser.add_argument("cuts", help="manifest to decode")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--max-seconds", type=float, default=200.0, help="of a batch, padding included")
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor, not of the clock on the wall")
    parser.add_argument("--greedy", action="store_true", help="greedy search alone")
    parser.add_argument("--lm", default="", help="ARPA file of an n-gram")
    return parser.parse_args()


@torch.inference_mode()
def encode_all(trained: Trained, options: argparse.Namespace) -> tuple[Encoded, float, float]:
    """Encoder output and its frames, by batches; seconds of audio; and the seconds that this takes at best of three."""
    cuts, times = open_cuts([options.cuts]), []
    for _ in range(3):
        decoder = Decoder(trained, GreedyOptions(max_seconds=options.max_seconds, batch_size=options.batch_size), CPU)
        started, encoded, audio = time.perf_counter(), [], 0.0
        for batch in decoder.batches(cuts):
            encoded += decoder.encode(batch)
            audio += batch.seconds
        times.append(time.perf_counter() - started)
    return encoded, audio, min(times)


@torch.inference_mode()
def search_batches(search: Search, encoded: Encoded) -> int:
    """Search all; how many frames were joined."""
    joined = 0
    for encoder_out_BTJ, frames_B in encoded:
        session = search.begin(len(encoder_out_BTJ))
        session.read(encoder_out_BTJ, frames_B)
        session.best()
        joined += session.joined()
    return joined


@torch.inference_mode()
def loop(model: Transducer, encoded: Encoded, limit: int) -> list[list[int]]:
    """Greedy search of one utterance and frame after the other, with the predictor where there is a label."""
    found = []
    for encoder_out_BTJ, frames_B in encoded:
        for rows_TJ, frames in zip(encoder_out_BTJ, frames_B.tolist()):
            context, tokens = model.predictor.start(1, CPU), []
            predicted = model.predict_next(context)
            for t in range(frames):
                for _ in range(limit):
                    token = int(model.joiner(rows_TJ[t : t + 1], predicted).argmax())
                    if token == 0:
                        break
                    tokens.append(token)
                    context = torch.cat((context[:, 1:], torch.tensor([[token]])), dim=1)
                    predicted = model.predict_next(context)
            found.append(tokens)
    return found


def in_turns(work: Mapping[str, Callable[[], object]], repeats: int, clock: Clock) -> dict[str, float]:
    """Median seconds of each, in turns, after one run that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, one in work.items():
            started = clock()
            one()
            times[name] += [clock() - started] * (repeat > 0)
    return {name: median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
