"""ARPA files as each tool writes them, read as one and the same model; and KenLM's scores against ours."""

import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from asr.decode.arpa import list_ngrams, read_arpa, write_arpa
from asr.decode.ngram import BEGIN, END, IMPOSSIBLE, UNKNOWN, NGramAutomaton, NGrams, Tokens, ngram_scorer
from asr.errors import InputError

LISTED = ["A", "B", "C", "▁", "\\", "7"]
PIECES = ["<blk>", UNKNOWN, *LISTED, "Q", "Z"]

CMU = """\
#############################################################################
## Copyright (c) 1996, Carnegie Mellon University, Cambridge University,
#############################################################################
This is an OPEN-vocabulary model (type 1)
This file is in the ARPA-standard format introduced by Doug Paul.

p(wd2|wd1)= if(bigram exists) p_2(wd1,wd2)
            else              bo_wt_1(wd1)*p_1(wd2)

Data formats:

Beginning of data mark: \\data\\
ngram 1=nr            # number of 1-grams

\\1-grams:
p_1     wd_1 bo_wt_1

end of data mark: \\end\\

"""


@dataclass(frozen=True)
class Form:
    """How a tool writes ARPA: `count` and `entry` are formats, `names` other names than ours."""

    before: str = ""
    count: str = "ngram {n}={count}"
    entry: str = "{p}\t{gram}\t{backoff}"
    number: str = "{:.7g}"
    nothing: str = "-99"  # log 0
    no_backoff: str = ""
    highest: str = ""  # a back-off column of the highest order
    blank: str = "\n"  # before a section
    last: str = "\n"  # before \end\
    line: str = "\n"
    names: dict[str, str] = field(default_factory=dict)
    empty: str = ""  # of an order without n-grams: "count", or its "section", too

    def __call__(self, ngrams: NGrams) -> str:
        listed = list_ngrams(ngrams)
        counts = [self.count.format(n=n, count=len(grams)) for n, grams in enumerate(listed, 1)]
        lines = [self.before + "\\data\\", *counts]
        lines += [self.count.format(n=ngrams.order + 1, count=0)] * bool(self.empty)
        for n, grams in enumerate(listed, 1):
            lines += [f"{self.blank}\\{n}-grams:", *(self.written(ngrams, gram) for gram in grams)]
        lines += [f"\n\\{ngrams.order + 1}-grams:"] * (self.empty == "section")
        return ("\n".join(lines) + self.last + "\\end\\\n").replace("\n", self.line)

    def written(self, ngrams: NGrams, gram: Tokens) -> str:
        """One n-gram."""
        backoff = self.log10(ngrams.backoffs[gram]) if gram in ngrams.backoffs else self.no_backoff
        return self.entry.format(
            p=self.log10(ngrams.arcs[gram[:-1]][gram[-1]]),
            gram=" ".join(self.names.get(token, token) for token in gram),
            backoff=self.highest if len(gram) == ngrams.order else backoff,
        ).rstrip()

    def log10(self, nats: float) -> str:
        return self.nothing if nats == IMPOSSIBLE else self.number.format(nats / math.log(10))


FORMS = {
    "KenLM": Form(no_backoff="0", last="\n\n"),
    "SRILM": Form(before="\n", last="\n\n"),
    "IRSTLM": Form(before="\n", count="ngram {n:>2}={count:>10}", number="{:.6g}"),
    "IRSTLM's script": Form(count="ngram {n}=\t{count}", blank=""),
    "CMU": Form(CMU, entry="{p} {gram} {backoff}", number="{:.4f}", nothing="-99.9990", names={UNKNOWN: "<UNK>"}),
    "MITLM": Form(number="{:.6f}", last="\n\n"),
    "pocolm": Form(number="{:.4f}", entry="{p}\t{gram}\t{backoff}  "),
    "OpenGrm": Form(number="{:.6f}", nothing="-inf", last="\n\n"),
    "SRILM on Windows": Form(before="\ufeff", line="\r\n"),
    "text in capitals": Form(names={UNKNOWN: "<UNK>", BEGIN: "<S>", END: "</S>"}),
    "exponents": Form(number="{:.5e}"),
    "spaces everywhere": Form(count="ngram \t{n} = {count}  ", entry="  {p}  {gram} \t {backoff}"),
    "an order that nothing is of": Form(empty="section"),
    "an order that nothing is of, without a section": Form(empty="count"),
    "back-off weights of 0 in the highest order": Form(no_backoff="0", highest="-0.000"),
    "comments": Form(before="# 3 sentences\n\nngram 1=5\n"),
}


def random_ngrams(seed: int, order: int = 3, unknown: bool = True, pruned: bool = True) -> NGrams:
    """Probabilities need not sum to one; if pruned, a suffix of what is listed need not be."""
    rng = random.Random(seed)
    tokens = [*LISTED, END, *[UNKNOWN] * unknown]
    ngrams = NGrams(order, {(): {BEGIN: IMPOSSIBLE} | {token: -rng.expovariate(0.3) for token in tokens}})
    ngrams.arcs[()]["C"], ngrams.arcs[()]["7"] = -2e-5, IMPOSSIBLE
    histories: list[Tokens] = [(token,) for token in (BEGIN, *tokens) if token != END]
    for _ in range(2, order + 1):
        histories = rng.sample(histories, min(len(histories), 12))
        for history in histories:
            likely = tokens if pruned else [token for token in ngrams.arcs[history[1:]] if token != BEGIN]
            ngrams.backoffs[history] = rng.gauss(-0.5, 1)
            ngrams.arcs[history] = {token: -rng.expovariate(0.5) for token in rng.sample(likely, 4)}
        histories = [(*history, token) for history in histories for token in ngrams.arcs[history] if token != END]
        histories = [history for history in histories if pruned or history[1:] in ngrams.arcs]
    return ngrams


def read_back(tmp_path: Path, content: str) -> NGrams:
    path = tmp_path / "lm.arpa"
    path.write_bytes(content.encode())
    return read_arpa(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", [1, 3])
def test_what_each_tool_writes_is_the_same_model(tmp_path, form, order):
    written = random_ngrams(order, order)
    ngrams = read_back(tmp_path, FORMS[form](written))
    assert ngrams.tokens == written.tokens
    assert ngrams.arcs.keys() == written.arcs.keys()
    for history, arcs in written.arcs.items():
        assert ngrams.arcs[history] == pytest.approx(arcs, abs=2e-4)
    weights = {history: nats for history, nats in ngrams.backoffs.items() if nats}
    assert weights == pytest.approx(written.backoffs, abs=2e-4)


# As IRSTLM 6.00.05 has written them (`tlm -lm=wb`, of a text in which `<s>` is a word like others).
IRSTLM = """

\\data\\
ngram  1=         4
ngram  2=         4


\\1-grams:
-3.0013	<s>	-1.71181
-0.551052	A	-1.97696
-0.823764	</s>	-2.47857
-2.39924	<unk>

\\2-grams:
-2.01197	<s> <s>
-0.500122	<s> A
-0.777674	A </s>
-0.9	</s> <s>
\\end\\
"""


def test_a_beginning_that_is_predicted_is_not_a_label(tmp_path):
    """IRSTLM takes `<s>` for a word; no search asks for it."""
    automaton = NGramAutomaton(read_back(tmp_path, IRSTLM), ["<blk>", UNKNOWN, "A", "B"])
    scores, end = automaton.weights([automaton.start, ("A",)])
    expected = [[-1.71181 - 2.39924, -0.500122, -1.71181 - 2.39924], [-1.97696 - 2.39924, -1.97696 - 0.551052]]
    assert (scores[0, 1:] / math.log(10)).tolist() == pytest.approx(expected[0])
    assert (scores[1, 1:3] / math.log(10)).tolist() == pytest.approx(expected[1])
    assert (end / math.log(10)).tolist() == pytest.approx([-1.71181 - 0.823764, -0.777674])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("iARPA\n\n\\data\\\nngram 1=\t8\n", "is IRSTLM's own form, not ARPA: make ARPA of it (compile-lm --text=yes)"),
        ("qARPA 3 256 256 256\n\n\\data\\\nngram 1= 8\n", "is IRSTLM's own form"),
        ("blmt 3          8         36        167\n8\n<s> 0\n", "is IRSTLM's own form"),
        (
            "mmap lm http://kheafield.com/code format version 5\n\0\x7f",
            "is a binary, not ARPA: give the ARPA file that",
        ),
        ("SRILM_BINARY_NGRAM_001\n", "is a binary, not ARPA"),
    ],
)
def test_forms_that_are_not_arpa_are_told_from_damage(tmp_path, content, expected):
    with pytest.raises(InputError) as caught:
        read_back(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'lm.arpa'}: {expected}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("-0.777674\tA </s>", "-0.777674\tA </s>\t-0.5", "line 17: a 2-gram should be here"),
        ("-0.777674\tA </s>", "-0.777674\tA </s>\t-", "line 17: a 2-gram should be here"),
        ("-0.551052", "-0,551052", "line 10: '-0,551052' is not a number"),
        ("-0.551052", "-1.#INF", "line 10: '-1.#INF' is not a number"),
        ("-0.551052", "0.01", "line 10: 0.01 is no logarithm of a probability"),
        ("-2.39924\t<unk>", "-2.39924\t<unk>\n-1\t<UNK>", "line 13: \\2-grams: should be here"),
        ("ngram  1=         4", "ngram  1=      four", "line 4: `ngram 1=COUNT` expected, not 'ngram  1=      four'"),
        ("ngram  2=         4\n", "ngram  2=         4\nngram  4=  1\n", "line 6: `ngram 3=COUNT` expected"),
        ("ngram  2=         4\n", "ngram  2=         4\nngram  3=  1\n", "line 20: \\3-grams: should be here"),
        ("-0.551052\tA", "-0.551052\tA\u00a0", "line 16: '<s> A' is there, but 'A' is not"),
    ],
)
def test_one_fault_of_a_tool_s_file(tmp_path, old, new, expected):
    assert IRSTLM.count(old) == 1
    with pytest.raises(InputError) as caught:
        read_back(tmp_path, IRSTLM.replace(old, new))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_unknown_token_under_two_names_is_refused(tmp_path):
    twice = IRSTLM.replace("ngram  1=         4", "ngram 1=5").replace("\t<unk>", "\t<unk>\n-1\t<UNK>")
    with pytest.raises(InputError, match="line 13: '<unk>' is there twice"):
        read_back(tmp_path, twice)


def test_a_probability_that_rounding_made_larger_than_one_is_one(tmp_path):
    assert read_back(tmp_path, IRSTLM.replace("-0.551052", "4.3e-08")).log_prob("A", ()) == 0


@pytest.mark.parametrize("order", [2, 3, 5])
def test_scores_are_kenlm_s(tmp_path, order):
    """Of every label after random labels, of which the model does not list two."""
    kenlm = pytest.importorskip("kenlm", reason="ufal.kenlm, of the extra `dev`, is not installed")
    config, compared = kenlm.Config(), 0
    config.show_progress = False
    for seed in range(8):
        write_arpa(tmp_path / "lm.arpa", random_ngrams(seed, order, pruned=False))
        theirs = kenlm.Model(str(tmp_path / "lm.arpa"), config)
        ours, rng = NGramAutomaton(read_arpa(tmp_path / "lm.arpa"), PIECES), random.Random(seed)
        for _ in range(20):
            labels = rng.choices(range(2, len(PIECES)), k=rng.randint(0, 9))
            expected = [score for score, _, _ in theirs.full_scores(" ".join(PIECES[label] for label in labels))]
            state, found = ours.start, []
            for label in labels:
                found.append(float(ours.weights([state])[0][0, label]) / math.log(10))
                state = ours.follow(state, label)
            found.append(float(ours.weights([state])[1][0]) / math.log(10))
            assert found == pytest.approx([max(log10, -99) for log10 in expected], abs=1e-5)
            compared += len(found)
    assert compared > 500


def test_pieces_that_are_not_listed_are_counted(tmp_path, caplog):
    ngrams = read_back(tmp_path, FORMS["CMU"](random_ngrams(0)))
    ngram_scorer(ngrams, PIECES, 1.0, torch.device("cpu"))
    assert caplog.messages == [
        "not in the n-gram model: 2 of the tokenizer's 10 pieces ('Q', 'Z'); they are as likely as its <unk> "
        f"({math.exp(ngrams.log_prob(UNKNOWN, ())):.2g})"
    ]


def test_without_an_unknown_token_they_are_impossible(tmp_path, caplog):
    ngrams = read_back(tmp_path, FORMS["SRILM"](random_ngrams(0, unknown=False)))
    many = [*PIECES, *map(chr, range(0x4E00, 0x4E20))]
    scorer = ngram_scorer(ngrams, many, 1.0, torch.device("cpu"))
    assert len(caplog.messages) == 1
    assert "34 of the tokenizer's 42 pieces ('Q', 'Z', '一', " in caplog.messages[0]
    assert caplog.messages[0].endswith(", …); they are impossible, since it has no <unk>")
    scores = scorer.scores(scorer.start(1))[0]
    assert scores.isfinite().all()
    assert (scores[[1, *range(8, 42)]] < -200).all()
    assert (scores[[2, 3, 4]] > -50).all()


def test_a_model_of_all_pieces_is_not_spoken_of(tmp_path, caplog):
    ngram_scorer(random_ngrams(0), PIECES[:-2], 1.0, torch.device("cpu"))
    assert not caplog.messages
