"""Scripts that write no blanks between words: there, what a reader waits for is the next character."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Han, kana, bopomofo and their punctuation; Thai, Lao, Tibetan, Burmese, Khmer.
_NO_BLANKS = re.compile(
    "[\u3000-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff9f\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]"
)


# Of these the ones whose characters a mark may follow.
_MARKED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]")


def without_blanks(text: str) -> bool:
    """Whether a text has characters of such a script."""
    return _NO_BLANKS.search(text) is not None


def units_of_text(text: str) -> list[str]:
    """The words of a text; of scripts that have no blanks, the characters, each with its marks."""
    return [unit for word in text.split() for unit in _units_of_word(word)]


def _units_of_word(word: str) -> list[str]:
    if not without_blanks(word):
        return [word]
    units: list[str] = []
    for character in word:
        alone = begins_unit(character)
        if units and not alone and (unicodedata.category(character)[0] == "M" or not without_blanks(units[-1])):
            units[-1] += character
        else:
            units.append(character)
    return units


def begins_unit(character: str) -> bool:
    """Whether a character is one of such a script, and no mark, which belongs to the character before."""
    return without_blanks(character) and unicodedata.category(character)[0] != "M"


def is_complete(unit: str) -> bool:
    """Whether nothing that follows a unit can belong to it: neither letters nor marks."""
    return without_blanks(unit[-1]) and not _MARKED.search(unit[-1])


def joined(units: Sequence[str]) -> str:
    """Units as a text: a blank between two of which neither is of a script without."""
    text = ""
    for unit in units:
        text += " " * blank_between(text, unit) + unit
    return text


def blank_between(before: str, after: str) -> bool:
    """Whether a blank belongs between two pieces of text."""
    return bool(before and after) and not (without_blanks(before[-1]) or without_blanks(after[0]))


def width(text: str) -> int:
    """Columns that a text takes: ideographs two, marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
