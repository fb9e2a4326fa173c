"""Parts of the page of `asr report`: curves, the choice of utterances, pictures and drawings."""

import base64
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lhotse.supervision import AlignmentItem
from PIL import Image

from asr.models.subsampling import frame_timing
from asr.ops.lattice.paths import PathArc
from asr.plot.lattice import LatticeView
from asr.report.curves import groups_of, thinned
from asr.report.decodings import Decoding, confusions, rank, row, same_utterances, sampled
from asr.report.drawing import LATTICES, Spoken, draw
from asr.report.examples import choose, spoken
from asr.report.page import embedded, text_of
from asr.report.pictures import occupation, spectrogram
from asr.report.runs import BEGUN, short_names
from asr.report.tables import rows_of_curves
from asr.score.normalize import normalizer
from asr.score.record import Record
from asr.score.report import Rate
from asr.score.wer import Utterance, score


def utterances(*texts):
    return [Utterance(f"u{n}", said, found) for n, (said, found) in enumerate(texts)]


def decoding(*texts):
    scored = score(utterances(*texts), "word")
    return Decoding(0, "decode", Path("decode"), scored, Rate("wer", scored.errors.rate), {})


# Curves


def test_thinning_keeps_the_peaks():
    values = [float(n % 7) for n in range(10_000)]
    values[4321], values[8765] = 1000.0, -1000.0
    kept = thinned([*enumerate(values)], 100)
    assert len(kept) <= 100
    assert {(4321, 1000.0), (8765, -1000.0)} <= {*kept}
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    assert all(values[step] == value for step, value in kept)


def test_thinning_keeps_the_ends():
    points = [(n, float(n % 7) + 1) for n in range(10_001)]
    points[0], points[-1] = (0, 3.0), (10_000, 4.0)  # no extremes
    kept = thinned(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert len(kept) <= 1000


@pytest.mark.parametrize(
    "value", [pytest.param(10**400, id="huge"), 1.79769e308, float("inf"), float("nan"), "1", None, [1]]
)
def test_what_is_no_finite_number_is_not_drawn(value):
    (group,) = groups_of([[{"step": 1, "train/loss": value}, {"step": 2, "train/loss": 2.0}]])
    assert group.charts[0].curves[0].values == [None, 2.0]


def test_steps_are_whole_in_the_table_and_on_the_axis():
    lines = [{"step": 1_000_000, "train/loss": 2.0}, {"step": 1_234_567, "train/loss": 1.0}]
    run = SimpleNamespace(name="run")
    (cells,) = rows_of_curves(SimpleNamespace(groups=groups_of([lines]), runs=[run]))
    assert cells == ["Loss, all parts, nats a label", "run", "1", "1234567", "2", "1000000", "1", "1234567"]
    drawn = text_of("curves.js")
    assert 'values.map(value => value == null ? "" : String(value))' in drawn
    assert "flatMap(power => [1, 2, 5].map(digit => digit * 10 ** power))" in drawn  # none is between two steps
    assert "space: 60, incrs: WHOLE," in drawn


def test_thinning_leaves_few_points_alone_and_survives_gaps():
    assert thinned([(1, None), (2, 3.0)], 2) == [(1, None), (2, 3.0)]
    kept = thinned([(n, None if n < 50 else float(n)) for n in range(100)], 10)
    assert kept[0] == (0, None)
    assert kept[-1] == (99, 99.0)


def test_metrics_that_nobody_knew_are_drawn_apart():
    (group,) = groups_of([[{"step": 1, "train/new": 2.0}, {"step": 2, "train/epoch": 1}]])
    assert (group.title, [chart.metric for chart in group.charts]) == ("Other figures", ["train/new"])


def test_intervals_go_with_the_values_that_they_hold():
    lines = [{"step": 5, "validation/wer": 9.0}, {"step": 9, "validation/wer": 8.0, "validation/wer_low": 7.0}]
    lines[1]["validation/wer_high"] = 9.5
    (chart,) = groups_of([lines])[0].charts
    assert (chart.curves[0].values, chart.curves[0].ends) == ([9.0, 8.0], [[None, 7.0], [None, 9.5]])


# Utterances


def test_the_most_frequent_errors_come_first():
    found = confusions(score(utterances(("A B", "A C"), ("B D", "C"), ("D", "D E")), "word"))
    assert found.substitutions == [("B", "C", 2)]
    assert found.deletions == [("D", "", 1)]
    assert found.insertions == [("", "E", 1)]
    assert found.different == (1, 1, 1)


@pytest.mark.parametrize(
    ("said", "found", "unit", "expected"),
    [
        ("A B C", "A X C D", "word", ["u0", "A B C", "=S=I", "X D", None]),
        ("A", "", "word", ["u0", "A", "D", "", None]),
        ("", "", "word", ["u0", "", "", "", None]),
        ("三 四", "三五", "char", ["u0", "三 四", "=S", "五", None]),
    ],
)
def test_a_row_tells_the_whole_alignment(said, found, unit, expected):
    (scored,) = score(utterances((said, found)), unit).per_utterance
    assert row(scored) == expected


def test_a_sample_has_the_worst_half_and_is_always_the_same():
    scored = score(utterances(*[("A", "B" if n in (3, 90) else "A") for n in range(100)]), "word")
    names = [one.utterance.id for one in sampled(scored, 4)]
    assert {"u3", "u90"} <= {*names}
    assert len({*names}) == 4
    assert names == sorted(names, key=lambda name: int(name[1:]))
    assert names == [one.utterance.id for one in sampled(scored, 4)]


def test_examples_are_the_worst_the_best_and_others():
    texts = [("A B C", "X Y Z"), ("A", "B"), ("A", "A"), ("A B C D", "A B C D"), ("A B", "A B"), ("A B C", "A B C")]
    kinds = choose([decoding(*texts)], 1)
    assert (kinds["u0"], kinds["u3"]) == ("worst", "best")
    assert [*kinds.values()] == ["worst", "best", "random"]
    assert choose([decoding(*texts)], 1) == kinds


def test_examples_of_several_decodings_are_by_the_errors_of_all():
    one, other = (
        decoding(("A B", "A X"), ("C", "C"), ("D", "D")),
        decoding(("A B", "A B"), ("C D E", "X Y Z"), ("D", "D")),
    )
    assert choose([one, other], 1)["u1"] == "worst"


def recorded(name, rate, cuts=None, **more):
    record = Record("", "run", "", "", cuts, False, "cpu", {}) if cuts else None
    scored = score(utterances(("A B", "A X" if rate else "A B")), more.pop("unit", "word"))
    return Decoding(0, name, Path(name), scored, Rate("wer", rate, **more), {}, record)


def test_sets_are_of_one_manifest():
    known = [recorded("a", 1.0, "clean"), recorded("b", 1.0), recorded("c", 1.0, "clean")]
    assert [[one.name for one in group] for group in same_utterances(known)] == [["a", "b", "c"]]
    twin = [*known, recorded("d", 1.0, "noisy")]
    assert [[one.name for one in group] for group in same_utterances(twin)] == [["a", "c"], ["b"], ["d"]]


def test_rates_are_ranked_with_their_like():
    some = [recorded("cer", 0.0, unit="char"), recorded("basic", 0.0, normalized="basic"), recorded("wer", 1.0)]
    assert [one.name for one in sorted(some, key=rank)] == ["wer", "basic", "cer"]


def test_lanes_of_normalised_decodings_have_their_words():
    raw = Utterance("u", "LOW", "LOW", ("\u2581LOW",), (0.2,), (0.5,))
    scored = score([normalizer("basic")(raw)], "word")
    one = Decoding(0, "a", Path("a"), scored, Rate("wer", 0.0, normalized="basic"), {})
    cut = SimpleNamespace(duration=1.0, supervisions=[])
    (lane,) = spoken(cut, [(one, scored.per_utterance[0])], ["a"])
    assert [word.symbol for word in lane.words] == ["LOW"]


def test_where_nothing_is_wrong_there_is_no_worst():
    assert {*choose([decoding(("A", "A"), ("B", "B"), ("C", "C"))], 1).values()} == {"best", "random"}


# The page


def test_names_of_runs_are_as_short_as_tells_them_apart(tmp_path):
    paths = [tmp_path / "an4" / "exp" / "tdt", tmp_path / "digits" / "exp" / "tdt"]
    assert short_names(paths) == ["an4/exp/tdt", "digits/exp/tdt"]
    assert short_names([paths[0], paths[0].with_name("hat")]) == ["tdt", "hat"]


def test_a_line_of_a_log_that_somebody_prepared_costs_no_time():
    began = ": 1,000 of 2,000 parameters, loss pruned of 2 views (chunked joiner), step 0 of 9 on cpu"
    assert BEGUN.search(began).groups() == ("1,000 of 2,000", "chunked joiner", "cpu")
    assert not BEGUN.search(": 1 parameters, loss x (y), step" * 1000)  # would not end


def test_embedded_data_is_what_it_was_and_ends_no_script():
    data = {"</script>": ["<!--", "&lt;", 1.5, None, "三"]}
    text = embedded(data)
    assert not {*"<>&"} & {*text}
    assert json.loads(text) == data
    with pytest.raises(ValueError, match="JSON"):
        embedded([float("nan")])


def test_characters_that_turn_a_line_around_or_have_no_encoding_are_written_out():
    assert json.loads(embedded(["\u202egnp.exe", ("\ud800", "\x00")])) == ["\\u202egnp.exe", ["\\ud800", "\\x00"]]


# Pictures


def opened(uri):
    assert uri.startswith("data:image/png;base64,")
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_spectrogram_has_low_frequencies_below_and_time_to_the_right():
    features = np.zeros((30, 8), np.float32)
    features[20:, 0] = 10.0  # late, low
    image = np.asarray(opened(spectrogram(features)).convert("L"), np.int64)
    assert image.shape == (8, 30)
    assert image[-1, 25] > image[-1, 5] + 100
    assert image[0, 25] == image[0, 5]


def test_a_long_spectrogram_has_as_many_columns_as_are_seen():
    assert opened(spectrogram(np.random.default_rng(0).normal(size=(5000, 8)))).size == (1250, 8)


def test_silence_has_a_spectrogram():
    assert opened(spectrogram(np.full((10, 8), -15.9))).size == (10, 8)


def test_nodes_that_no_path_passes_cannot_be_seen():
    image = np.asarray(opened(occupation(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))).convert("RGBA"))
    assert image[..., 3].tolist() == [[0, 128, 255], [255, 128, 0]]


# Drawings

TIMING = frame_timing(4)


def view(frames=10, pieces=("A", "B"), **more):
    path = [PathArc(0, 0, 1, 0), PathArc(1, 0, 4, 1), PathArc(5, 1, 1, 1)]
    bounds = {"ar": (torch.zeros(frames), torch.tensor([0.0] * 5 + [2.0] * (frames - 5)))}
    occupied = torch.zeros(frames, len(pieces) + 1)
    return LatticeView(occupied, [*pieces], 1.5, bounds, path, TIMING, **more)


def test_everything_lies_over_one_axis_of_time():
    spoken = Spoken("recognised", [AlignmentItem("AB", 0.1, 0.2)], [("A", 0.1, 0.9), ("B", 0.3, None)])
    drawing = draw(0.5, "data:", [spoken], [("Lattice", view())])
    x = drawing.scale.x
    (lane,), (lattice,) = drawing.lanes, drawing.lattices
    assert [one.x for one in lane.tokens] == [x(0.1), x(0.3)]
    assert [one.x for one in lane.words] == [x(0.1)]
    assert [one.about for one in lane.tokens] == ["A at 0.10 s, confidence 0.90", "B at 0.30 s"]
    assert lattice.x == x(TIMING.begin(0))
    assert lattice.x + lattice.width == pytest.approx(x(TIMING.begin(10)), abs=0.2)
    assert drawing.ticks[0].x == x(0)
    assert drawing.ticks[-1].x <= x(0.5) < drawing.width
    assert drawing.sound[0] + drawing.sound[2] == pytest.approx(x(0.5), abs=0.2)


def test_the_path_passes_its_nodes_from_the_lowest_label_to_the_highest():
    lattice = draw(0.5, "data:", [], [("Lattice", view())]).lattices[0]
    points = [tuple(map(float, point.split())) for point in lattice.path[1:].split("L")]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[0][1] > points[-1][1]  # SVG counts downwards
    assert lattice.y < points[-1][1]
    assert points[0][1] < lattice.y + lattice.height
    assert lattice.passed.count("M") == 3
    assert [one.text for one in lattice.labels] == ["A", "B", "end"]
    assert lattice.about.endswith("likeliest path: 3 arcs, 3 frames skipped")
    ((name, outline),) = lattice.bounds
    assert name == "ar (20 nodes)"
    assert outline.count("V") == 1  # one step above, none below


def test_tokens_do_not_cover_each_other():
    tokens = [("LONG", 0.1 + 0.01 * n, None) for n in range(6)]
    lane = draw(5.0, "data:", [Spoken("", [], tokens)], []).lanes[0]
    assert len([one for one in lane.tokens if one.text]) == 3  # a row each; the others are marks
    assert len({one.y for one in lane.tokens if one.text}) == 3
    assert len(lane.tokens) == 6


def test_long_lattices_are_not_higher_and_name_fewer_labels():
    pieces = ["X"] * 199
    drawing = draw(0.5, "data:", [], [("Lattice", replace(view(), occupation_TU=torch.zeros(10, 200), pieces=pieces))])
    (lattice,) = drawing.lattices
    assert lattice.height == LATTICES[0]
    assert len(lattice.labels) < 40


def test_an_empty_path_is_drawn():
    assert draw(0.5, "data:", [], [("Lattice", replace(view(), path=[]))]).lattices[0].path == ""
