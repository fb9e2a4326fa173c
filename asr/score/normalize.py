"""What does not count as an error: a spelling that both texts are brought to before they are compared."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version

from asr.data.sources.text import without_punctuation
from asr.errors import InputError, not_installed
from asr.score.wer import Utterance

LIBRARY = "whisper-normalizer"  # OpenAI's rules, by themselves: MIT, no torch


@dataclass(frozen=True)
class Normalizer:
    """A spelling by its name. spell: the text in it. library: name and version of what does it, where it is not us."""

    name: str
    spell: Callable[[str], str]
    library: str = ""

    def __call__(self, utterance: Utterance) -> Utterance:
        """The utterance with both of its texts in this spelling."""
        return replace(
            utterance, reference=self.spell(utterance.reference), hypothesis=self.spell(utterance.hypothesis)
        )

    @property
    def note(self) -> str:
        """What `wer.txt` says of it; "" where texts are as they were."""
        by = f" ({self.library})" if self.library else ""
        return f"normalised: {self.name}{by}" if self != AS_THEY_ARE else ""


AS_THEY_ARE = Normalizer("none", str)


def normalizer(name: str) -> Normalizer:
    """The spelling of this name: none, basic or english.

    Raises InputError where there is none, or its library is not installed.
    """
    if name == "english":
        return english()
    known = {one.name: one for one in (AS_THEY_ARE, Normalizer("basic", basic))}
    if name not in known:
        raise InputError(f"normalize={name}: unknown; use one of {', '.join([*known, 'english'])}")
    return known[name]


def basic(text: str) -> str:
    """The text without differences of case, of compatible characters (NFKC: full width, ligatures), of apostrophes,
    and with blanks for punctuation, but for apostrophes and hyphens inside of words."""
    return without_punctuation(unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))


def english() -> Normalizer:
    """The rules of Whisper's evaluations. Raises InputError where their library is not installed."""
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise not_installed(f"normalize=english: {LIBRARY}", "score") from error
    return Normalizer("english", EnglishTextNormalizer(), f"{LIBRARY} {version(LIBRARY)}")
