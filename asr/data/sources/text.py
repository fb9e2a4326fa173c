"""Transcripts as a model is to write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from asr.data.scripts import joined
from asr.data.tokenizer import normalised
from asr.errors import InputError

CASES: dict[str, Callable[[str], str]] = {"keep": str, "lower": str.lower, "upper": str.upper}
INSIDE = "'’-"  # which belong to a word where there are letters on both sides of them
NOTE = re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)|\{[^}]*\}")  # such as [laughter]
REPLACEMENT = "\ufffd"  # what decoders put for bytes that they cannot read


@dataclass(frozen=True)
class Spelling:
    """case: keep, lower or upper. punctuation: keep or remove, apostrophes and hyphens inside of words excepted."""

    case: str = "keep"
    punctuation: str = "keep"

    def __call__(self, text: str) -> str:
        """The text in one Unicode form (NFC), white space collapsed.

        Raises InputError where it is empty, has a character that stands for no sound, or is a note in brackets that
        would lose them.
        """
        text = unicodedata.normalize("NFC", text)
        wrong = next((one for one in text if is_damage(one)), None)
        if wrong is not None:
            raise InputError(f"{wrong!a} in its transcript is no letter; restore the text, or remove the character")
        if self.punctuation == "remove":
            if NOTE.fullmatch(text.strip()):
                raise InputError(f"{text.strip()!r} is a note, nothing that was said; write that, or remove the row")
            text = without_punctuation(text)
        return normalised(CASES[self.case](text))


def without_punctuation(text: str) -> str:
    """The text with blanks for punctuation, but for what is inside of words; in scripts without blanks with nothing."""
    parts = groupby(range(len(text)), partial(is_spoken, text))
    return joined(["".join(text[place] for place in places) for spoken, places in parts if spoken])


def is_damage(character: str) -> bool:
    """Whether a character is a control character, or stands for bytes that were no text."""
    return character == REPLACEMENT or (unicodedata.category(character) == "Cc" and not character.isspace())


def is_spoken(text: str, place: int) -> bool:
    """Whether the character at a place is no punctuation, or is inside of a word."""
    if not unicodedata.category(text[place]).startswith(("P", "S")):
        return True
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return text[place] in INSIDE and len(around) == 2 and around.isalpha()
