"""Files that a scoring run leaves: hypotheses, alignments, error counts and the error rate."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.data.scripts import width
from asr.errors import InputError
from asr.files import write_atomically
from asr.score.bootstrap import Interval
from asr.score.normalize import AS_THEY_ARE, Normalizer, normalizer
from asr.score.record import Record, forget_record, write_record
from asr.score.wer import AUTO, GAP, RATES, Alignment, Score, ScoredUtterance, Unit, Utterance, score, units

HYPOTHESES = "hypotheses.jsonl"
SHOWN = 5  # utterances that a line names
_FIELDS = ("id", "reference", "hypothesis")
_RATE = re.compile(r"%(WER|CER) (\d+(?:\.\d+)?|inf)(?: \[[^]]*\](?: 95 % (\d+(?:\.\d+)?)-(\d+(?:\.\d+)?))?)?(?=\s|$)")


def read_hypotheses(path: Path | str) -> list[Utterance]:
    """Read utterances from JSON lines with the strings "id", "reference" and "hypothesis".

    The lists "tokens", "times" and "confidences" and the number "score" may be there; blank lines are skipped and other
    fields ignored.

    Raises:
        InputError: the file cannot be read, or a line (named as file:line) is not of this form.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; name a file, as {path / HYPOTHESES}") from None
    except OSError as error:
        raise InputError(f"cannot read hypotheses '{path}': {error.strerror}; check the path") from error
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def write_hypotheses(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write utterances as JSON lines in UTF-8, in the form `read_hypotheses` reads."""
    _write_lines(path, [json.dumps(_record(one), ensure_ascii=False) for one in utterances])


def write_nbest(path: Path | str, found: Iterable[Sequence[Utterance]]) -> None:
    """Write the hypotheses of each utterance, best first, as JSON lines with their rank, from 1."""
    rows = ({"rank": n, **_record(one)} for hypotheses in found for n, one in enumerate(hypotheses, 1))
    _write_lines(path, [json.dumps(row, ensure_ascii=False) for row in rows])


def write_recogs(path: Path | str, utterances: Iterable[Utterance], unit: Unit = "word") -> None:
    """Write reference and hypothesis of each utterance as lists of units, in the form that icefall's recogs-* have."""
    _write_lines(
        path,
        [
            f"{one.id}:\t{name}={units(text, unit)}"
            for one in utterances
            for name, text in (("ref", one.reference), ("hyp", one.hypothesis))
        ],
    )


def write_alignments(path: Path | str, score: Score) -> None:
    """Write every utterance's reference above its hypothesis, word below word, in the order scored.

    A gap is filled with `*`; the line below marks substitutions (S), deletions (D) and insertions (I).
    """
    _write_lines(path, [line for scored in score.per_utterance for line in _block(scored, score.unit)])


def write_error_counts(path: Path | str, score: Score, top: int = 50, name: str = "") -> None:
    """Write the `top` most frequent substitutions, deletions and insertions, and the worst words.

    The file begins with the error rate line (ending in `name`) and the utterance error rate line.
    """
    pairs = Counter(pair for scored in score.per_utterance for pair in scored.alignment)
    sections = [
        _section("SUBSTITUTIONS (count, reference -> hypothesis)", _substitutions(pairs), top),
        _section("DELETIONS (count, reference)", _deletions(pairs), top),
        _section("INSERTIONS (count, hypothesis)", _insertions(pairs), top),
        _section(f"{score.unit.upper()}S BY ERROR RATE (percent, wrong / in the reference)", _worst(pairs), top),
    ]
    header = [score.line(name), score.utterance_line()]
    _write_lines(path, header + [line for section in sections for line in section])


def write_report(
    directory: Path | str,
    utterances: Iterable[Utterance],
    name: str,
    unit: str = AUTO,
    note: str = "",
    normalize: Normalizer = AS_THEY_ARE,
    record: Record | None = None,
) -> Score:
    """Score the utterances and write the whole report into `directory`, which is made if missing.

    Writes `hypotheses.jsonl`, with texts as they were, and as they were compared `recogs.txt`, `alignments.txt`,
    `errs.txt` and, last, `wer.txt`: one line, which says whether it is of words or of characters, and others for
    `note`, on what is not in the rate, and for what texts were brought to before. `record`, where it is known, goes
    beside them; that of other hypotheses goes.

    Raises:
        InputError: see `asr.score.wer.score`.
    """
    directory, utterances = Path(directory), list(utterances)
    result = score(map(normalize, utterances), unit)
    forget_record(directory)
    write_hypotheses(directory / HYPOTHESES, utterances)
    write_recogs(directory / "recogs.txt", (scored.utterance for scored in result.per_utterance), result.unit)
    write_alignments(directory / "alignments.txt", result)
    write_error_counts(directory / "errs.txt", result, name=name)
    _write_lines(directory / "wer.txt", filter(None, [result.line(name), note, normalize.note]))
    if record:
        write_record(directory, record)
    return result


@dataclass(frozen=True)
class Rate:
    """What a `wer.txt` tells.

    name: "wer" or "cer". percent: the error rate, and what holds it, where it says so. not_scored: how many utterances
    are not in it, as "2 of 130"; "" where all are. normalized: what texts were brought to before, as "basic".
    """

    name: str
    percent: float
    interval: Interval | None = None
    not_scored: str = ""
    normalized: str = ""

    @property
    def unit(self) -> Unit:
        """What errors are counted in."""
        return next(unit for unit, name in RATES.items() if name == self.name)


def read_rates(files: Iterable[Path]) -> tuple[dict[Path, Rate], list[str]]:
    """The error rates in files `wer.txt`, by their directories, and why others cannot be read."""
    rates, faults = dict[Path, Rate](), list[str]()
    for file in files:
        try:
            rates[file.parent] = read_rate(file)
        except InputError as error:
            faults.append(str(error))
    return rates, faults


def read_rate(path: Path) -> Rate:
    """What a `wer.txt` tells. Raises InputError for another file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); score again with `asr score`") from None
    found = _RATE.match(text)
    if not found:
        raise InputError(f"{path}: not a WER line; score again with `asr score`")
    name, percent, low, high = found.groups()
    missing = re.search(r"^(\d+ of \d+) utterances were skipped", text, re.MULTILINE)
    spelling = re.search(r"^normalised: (.+)$", text, re.MULTILINE)
    return Rate(
        name.lower(),
        float(percent),
        Interval(float(low), float(high)) if low else None,
        missing[1] if missing else "",
        spelling[1] if spelling else "",
    )


def read_score(directory: Path) -> Score:
    """The errors of what was scored into a directory, counted again, in the same unit and spelling.

    Raises InputError where it has no `wer.txt` or `hypotheses.jsonl`, or the library of the spelling is not installed.
    """
    rate = read_rate(directory / "wer.txt")
    spelling = normalizer(rate.normalized.partition(" ")[0] or AS_THEY_ARE.name)
    return score(map(spelling, read_hypotheses(directory / HYPOTHESES)), rate.unit)


def unheard(score: Score, utterances: Iterable[Utterance]) -> str:
    """What to say of utterances in which nothing was recognised, such as silence; "" where there are none.

    utterances: as they were recognised; the score may be of texts of which something is left out.
    """
    silent = {one.id for one in utterances if one.reference.strip() and not one.hypothesis.strip()}
    empty = [one for one in score.per_utterance if one.utterance.id in silent]
    if not empty:
        return ""
    errors = sum(one.errors.total for one in empty)
    names = ", ".join(one.utterance.id for one in empty[:SHOWN]) + ", …" * (len(empty) > SHOWN)
    share = f"{len(empty)} of {len(score.per_utterance)} utterances ({errors} of {score.errors.total} errors)"
    return f"nothing was recognised in {share}: {names}"


def in_other_case(scored: Score) -> str:
    """What to say where half of the errors, and of what was said, are of upper and lower case alone; else ""."""
    errors = scored.errors
    if not errors.total or 2 * errors.total < errors.words:
        return ""
    spoken = (one.utterance for one in scored.per_utterance)
    folded = (Utterance(one.id, one.reference.casefold(), one.hypothesis.casefold()) for one in spoken)
    alone = errors.total - score(folded, scored.unit).errors.total
    if 2 * alone < errors.total:
        return ""
    return (
        f"{alone} of {errors.total} errors are of upper and lower case alone: the references are in another than the "
        "hypotheses; `asr manifest case=…` makes a manifest with transcripts in the case of the training's, and "
        "normalize=basic counts no case"
    )


def not_scored(missing: int, total: int) -> str:
    """What `wer.txt` says of utterances that are not in its rate; "" where all are."""
    return f"{missing} of {total} utterances were skipped and are not scored" if missing else ""


def _record(utterance: Utterance) -> dict[str, object]:
    """The fields of an utterance that are known."""
    return {name: value for name, value in asdict(utterance).items() if name in _FIELDS or value not in ((), None)}


def _parse(line: bytes, where: str) -> Utterance:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); write one JSON object per line") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object; give the strings {', '.join(_FIELDS)}")
    for field in _FIELDS:
        if not isinstance(record.get(field), str):
            raise InputError(f"{where}: no string '{field}'; give the strings {', '.join(_FIELDS)}")
    tokens, times, confidences = (record.get(field, []) for field in ("tokens", "times", "confidences"))
    sound = _is_list_of(tokens, str) and _are_numbers(times) and _are_numbers(confidences)
    if not sound or len(tokens) != len(times) or len(confidences) not in (0, len(tokens)):
        fields = "'tokens' must be strings, and 'times' and 'confidences' as many numbers"
        raise InputError(f"{where}: {fields}; or leave them out")
    score = record.get("score")
    if score is not None and not _are_numbers([score]):
        raise InputError(f"{where}: 'score' must be a number; or leave it out")
    return Utterance(
        record["id"], record["reference"], record["hypothesis"], tuple(tokens), tuple(times), tuple(confidences), score
    )


def _are_numbers(values: object) -> bool:
    return _is_list_of(values, (int, float)) and all(map(math.isfinite, values))  # type: ignore[call-overload]


def _is_list_of(values: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _block(scored: ScoredUtterance, unit: Unit) -> list[str]:
    reference, hypothesis, marks = _columns(scored.alignment)
    lines = [
        f"{scored.utterance.id}: {scored.errors.line('', unit)}",
        f"REF: {reference}".rstrip(),
        f"HYP: {hypothesis}".rstrip(),
    ]
    return lines + ([f"     {marks}"] if marks else []) + [""]


def _columns(alignment: Alignment) -> tuple[str, str, str]:
    rows = ([], [], []) if not alignment else zip(*map(_column, alignment), strict=True)
    reference, hypothesis, marks = (" ".join(row).rstrip() for row in rows)
    return reference, hypothesis, marks


def _column(pair: tuple[str, str]) -> tuple[str, str, str]:
    width = max(map(_display_width, pair))
    reference, hypothesis = (_pad(unit or "*" * width, width) for unit in pair)
    return reference, hypothesis, _pad(mark(pair), width)


def mark(pair: tuple[str, str]) -> str:
    """What a pair of an alignment is: S, D or I, and "" where it is correct."""
    reference, hypothesis = pair
    if reference == hypothesis:
        return ""
    if reference == GAP:
        return "I"
    return "D" if hypothesis == GAP else "S"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _display_width(text))


def _display_width(text: str) -> int:
    """Columns on a terminal; at least one for the mark."""
    return len(text) if text.isascii() else max(1, width(text))


def _substitutions(pairs: Counter[tuple[str, str]]) -> list[str]:
    wrong = {pair: count for pair, count in pairs.items() if mark(pair) == "S"}
    return [f"{count:8d}  {ref} -> {hyp}" for (ref, hyp), count in _most_frequent(wrong)]


def _deletions(pairs: Counter[tuple[str, str]]) -> list[str]:
    wrong = {pair: count for pair, count in pairs.items() if mark(pair) == "D"}
    return [f"{count:8d}  {ref}" for (ref, _), count in _most_frequent(wrong)]


def _insertions(pairs: Counter[tuple[str, str]]) -> list[str]:
    wrong = {pair: count for pair, count in pairs.items() if mark(pair) == "I"}
    return [f"{count:8d}  {hyp}" for (_, hyp), count in _most_frequent(wrong)]


def _most_frequent(counts: dict[tuple[str, str], int]) -> list[tuple[tuple[str, str], int]]:
    """Most frequent first, equally frequent ones in alphabetical order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _worst(pairs: Counter[tuple[str, str]]) -> list[str]:
    """Reference units with errors, highest rate first and, among equal rates, the most errors first."""
    occurrences: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for pair, count in pairs.items():
        occurrences[pair[0]] += count
        wrong[pair[0]] += count if mark(pair) in ("S", "D") else 0
    rates = sorted((-wrong[unit] / occurrences[unit], -wrong[unit], unit) for unit in wrong if wrong[unit])
    return [f"{-100 * rate:8.2f}  {wrong[unit]} / {occurrences[unit]}  {unit}" for rate, _, unit in rates]


def _section(title: str, rows: list[str], top: int) -> list[str]:
    return ["", f"{title}: {min(top, len(rows))} of {len(rows)}", *rows[:top]]


def _write_lines(path: Path | str, lines: Iterable[str]) -> None:
    write_atomically(Path(path), "".join(f"{line}\n" for line in lines).encode("utf-8"))
