"""The page: one HTML file that loads nothing from anywhere, and in which nothing that comes from data is obeyed.

Three things keep it so. Jinja escapes whatever it puts in; the scripts put data in as text; and the policy in the head
of the page names scripts and styles by their SHA-256, so that a browser runs no other, and forbids every connection.
Characters that turn a line around, or that no encoding has, are written out, as on a terminal.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from asr.console import visible
from asr.report import tables
from asr.report.content import Content
from asr.report.decodings import Decoding, confusions, row, same_utterances, sampled
from asr.report.examples import SHOWN, Example
from asr.report.runs import Run
from asr.report.tables import label
from asr.version import version

COLOURS = 7  # of lines, in web/page.css
KINDS = {"worst": "Most errors", "best": "Fewest errors, longest first", "random": "Drawn at random from the others"}
PAGE = files("asr.report") / "web"
# A browser takes any of these three for the end of a script, or for its beginning.
IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def write(content: Content) -> bytes:
    """The file of a page."""
    style, script, library = style_text(), script_text(), text_of("uplot/uPlot.iife.min.js")
    numbered = number(content.examples)
    groups = same_utterances(content.decodings)
    page = (
        environment()
        .get_template("page.html")
        .render(
            title=title(content.runs),
            version=version(),
            written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
            policy=policy([script, *[library] * bool(content.groups)], style),
            style=Markup(style),
            script=Markup(script),
            library=Markup(library),
            data=Markup(embedded(data_of(content, numbered))),
            colours=COLOURS,
            runs=content.runs,
            facts=[*facts_of(content.runs)],
            differing=tables.options(content.runs, all_of_them=False),
            options=tables.options(content.runs, all_of_them=True),
            notes=[*content.left_out, *content.notes],
            groups=content.groups,
            decodings=[(one.run, label(one, content.runs)) for one in content.decodings],
            extremes=tables.extremes(content),
            rates=tables.rates(content) if content.decodings else [],
            differences=tables.which_differ(content),
            confusions=[kinds_of(one) for one in content.decodings],
            examples=[shown(one, group, content.runs) for one, group in zip(numbered, groups)],
        )
    )
    return page.encode()


def environment() -> Environment:
    """Jinja, which escapes what it puts in, and refuses what is not there."""
    return Environment(
        loader=FileSystemLoader(str(PAGE)),
        autoescape=True,
        finalize=written_out,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def text_of(name: str) -> str:
    """A file of the page's."""
    return (PAGE / name).read_text(encoding="utf-8")


def style_text() -> str:
    """All styles."""
    return text_of("uplot/uPlot.min.css") + "\n" + text_of("page.css")


def script_text() -> str:
    """All scripts of ours."""
    return text_of("curves.js") + text_of("utterances.js")


def policy(scripts: Sequence[str], style: str) -> str:
    """The Content-Security-Policy that allows these and no other, and pictures and sound that are in the page."""
    allowed = " ".join(map(digest, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {digest(style)}; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    """A script or style as a policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded(data: Any) -> str:
    """JSON that a script element can hold, whatever is in it."""
    text = json.dumps(written_out(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(IN_SCRIPT)


def written_out(data: Any) -> Any:
    """Data whose texts are `visible`; of those that are Markup, which are ours, nothing is changed."""
    if type(data) is str:
        return visible(data)
    if isinstance(data, dict):
        return {written_out(key): written_out(value) for key, value in data.items()}
    return [*map(written_out, data)] if isinstance(data, (list, tuple)) else data


def title(runs: Sequence[Run]) -> str:
    """What the page is called."""
    shown = [run.name for run in runs[:3]]
    return ", ".join(shown) + (f" and {len(runs) - 3} other runs" if len(runs) > 3 else "")


def facts_of(runs: Sequence[Run]) -> Iterator[tuple[str, list[str]]]:
    """What was trained, by what it is called: a text for each run, or one where it is the same of all."""
    for name in dict.fromkeys(name for run in runs for name in run.facts):
        told = [run.facts.get(name, "") for run in runs]
        yield name, told[:1] if len({*told}) == 1 else told


def data_of(content: Content, examples: Sequence[Sequence[tuple[int, Example]]]) -> dict[str, Any]:
    """What the scripts read."""
    groups = same_utterances(content.decodings)
    sets = {id(one): place for place, group in enumerate(groups) for one in group}
    return {
        "runs": [run.name for run in content.runs],
        "groups": [asdict(group) for group in content.groups],
        "decodings": [
            {
                "label": label(one, content.runs),
                "unit": one.score.unit,
                "set": sets[id(one)],
                "total": len(one.score.per_utterance),
                "rows": [row(utterance) for utterance in sampled(one.score, content.most)],
            }
            for one in content.decodings
        ],
        "examples": {place: found_in(example, content.runs) for group in examples for place, example in group},
        "heard": [{example.id: place for place, example in group} for group in examples],  # of each set
    }


def found_in(example: Example, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """An example in each decoding; there is no label where there is one alone."""
    several = len(example.found) > 1
    return [
        {"label": label(one, runs) if several else "", "unit": one.score.unit, "row": row(utterance)}
        for one, utterance in example.found
    ]


def kinds_of(decoding: Decoding) -> list[tuple[str, int, list[tuple[str, str, int]]]]:
    """The frequent errors of a decoding, by kind: what it is called, how many differ, and those that are listed."""
    found = confusions(decoding.score)
    listed = found.substitutions, found.deletions, found.insertions
    return [*zip(("Substituted", "Deleted", "Inserted"), found.different, listed)]


def number(examples: Sequence[Sequence[Example]]) -> list[list[tuple[int, Example]]]:
    """The examples with their places on the page."""
    count = 0
    numbered = []
    for group in examples:
        numbered.append([*enumerate(group, count)])
        count += len(group)
    return numbered


def shown(examples: Sequence[tuple[int, Example]], group: Sequence[Decoding], runs: Sequence[Run]) -> dict[str, Any]:
    """The examples of a set, as the template has them."""
    kinds = [
        {"title": words, "examples": [as_shown(n, one) for n, one in examples if one.kind == kind]}
        for kind, words in KINDS.items()
    ]
    names = ", ".join(label(one, runs) for one in group[:SHOWN])
    more = f" (the best {SHOWN} of {len(group)})" if len(group) > SHOWN else ""
    return {"title": names + more, "kinds": [one for one in kinds if one["examples"]]}


def as_shown(place: int, example: Example) -> dict[str, Any]:
    """An example, with its drawing in words."""
    lattices = example.drawing.lattices if example.drawing else []
    about = f"Spectrogram of {example.id} with the times of words and tokens"
    told = "".join(f". {one.name}: {one.about}" for one in lattices)
    return {
        "number": place,
        "id": example.id,
        "sound": example.sound,
        "drawing": example.drawing,
        "missing": example.missing,
        "about": about + told,
    }
