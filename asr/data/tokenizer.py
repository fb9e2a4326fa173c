"""Tokenizers: transcripts to sequences of ids and back, with id 0 kept for the transducer's blank."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NoReturn, Protocol, get_args

import sentencepiece

from asr.errors import InputError
from asr.files import write_atomically

Kind = Literal["bpe", "unigram", "char"]

BLANK_ID = 0
UNKNOWN_ID = 1
USUAL_VOCAB_SIZE = 500  # that is tried, to say which sizes the texts allow
FIRST_SENTENCES = 20_000  # of the texts, which are enough for that
_BLANK, _UNKNOWN, SPACE = "<blk>", "<unk>", "\u2581"

# SentencePiece writes a space as U+2581 and, in training, an unknown character as U+2585; it drops
# whole sentences with a NUL and cuts the names of special pieces out of the others. Half a surrogate
# pair has no UTF-8 form.
_RESERVED = re.compile(f"{_BLANK}|{_UNKNOWN}|[\u2581\u2585\0\ud800-\udfff]")

_MODEL_FILE, _TOKENS_FILE, _DESCRIPTION_FILE = "tokenizer.model", "tokens.txt", "tokenizer.json"


class Tokenizer(Protocol):
    """What models, decoders and data need of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank included."""

    @property
    def blank_id(self) -> int:
        """Id of the transducer's blank: always 0; `encode` never gives it."""

    @property
    def pieces(self) -> list[str]:
        """The symbol of every id, in the order of the ids."""

    @property
    def log_probs(self) -> list[float] | None:
        """The log-probability of every piece, in the order of the ids; None where they have none."""

    def encode(self, text: str) -> list[int]:
        """Ids of a transcript; raises InputError where the vocabulary does not cover it."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a sequence of ids: `decode(encode(text)) == text` up to white space."""

    def save(self, directory: Path | str) -> None:
        """Write the directory form, which `load_tokenizer` reads."""

    def files(self) -> dict[str, bytes]:
        """What `save` writes, by name."""


class SentencePieceTokenizer:
    """A SentencePiece model of byte pair encoding (`bpe`), of pieces by their probabilities (`unigram`), or of single
    characters (`char`).

    Piece 0 is `<blk>`, piece 1 `<unk>`; a space is written as U+2581 in the pieces.
    """

    def __init__(self, model: bytes, kind: Kind) -> None:
        """Take a serialised SentencePiece model.

        Raises:
            InputError: `model` is not a SentencePiece model, or its pieces 0 and 1 are not as above.
        """
        self.kind: Kind = kind
        self._model = model
        self._processor = _processor(model)
        self._require_text()
        if self.pieces[:2] != [_BLANK, _UNKNOWN]:
            raise InputError(
                f"the tokenizer's pieces 0 and 1 are {self.pieces[:2]}, not {_BLANK} and {_UNKNOWN}: "
                "train the tokenizer with this package"
            )

    @property
    def vocab_size(self) -> int:
        """Number of ids, blank and unknown included."""
        return int(self._processor.get_piece_size())

    @property
    def blank_id(self) -> int:
        """Id of the blank, 0."""
        return BLANK_ID

    @cached_property
    def pieces(self) -> list[str]:
        """The symbol of every id, in the order of the ids."""
        return [str(self._processor.id_to_piece(id_)) for id_ in range(self.vocab_size)]

    @property
    def log_probs(self) -> list[float] | None:
        """See `Tokenizer`: those of a `unigram` model."""
        if self.kind != "unigram":
            return None
        return [float(self._processor.get_score(id_)) for id_ in range(self.vocab_size)]

    def encode(self, text: str) -> list[int]:
        """Ids of a transcript, whose white space is stripped and collapsed first.

        Raises:
            InputError: the text is blank, or has a reserved symbol or a character outside the vocabulary.
        """
        text = normalised(text)
        ids = list(self._processor.encode(text))
        if UNKNOWN_ID in ids:
            self._refuse_unknown(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a sequence of ids, white space stripped and collapsed; blanks vanish.

        Raises:
            IndexError: an id is outside 0 … vocab_size - 1.
        """
        return _collapse(self._processor.decode([int(id_) for id_ in ids])) if len(ids) else ""

    def save(self, directory: Path | str) -> None:
        """Write `tokenizer.model`, `tokens.txt` (`symbol id` per line) and `tokenizer.json`."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            write_atomically(directory / name, content)

    def files(self) -> dict[str, bytes]:
        """What `save` writes, by name, in this order."""
        # The description last, since its checksum vouches for the model: an interrupted save is noticed on loading.
        return {_MODEL_FILE: self._model, _TOKENS_FILE: self._tokens(), _DESCRIPTION_FILE: self._description()}

    def _require_text(self) -> None:
        # A piece that is no text is an error of SentencePiece's own, when it is first met: in a search, say.
        try:
            texts = [*self.pieces, self._processor.decode(list(range(self.vocab_size)))]
            "".join(texts).encode()
        except (UnicodeError, RuntimeError, IndexError) as error:
            raise InputError(
                f"the tokenizer has a piece that is no text ({error}): train the tokenizer again"
            ) from error

    def _tokens(self) -> bytes:
        return "".join(f"{piece} {id_}\n" for id_, piece in enumerate(self.pieces)).encode("utf-8")

    def _description(self) -> bytes:
        fields = {"kind": self.kind, "vocab_size": self.vocab_size, "sha256": _sha256(self._model)}
        return (json.dumps(fields, indent=2) + "\n").encode("utf-8")

    def _refuse_unknown(self, text: str) -> NoReturn:
        for case, other in (("upper", text.upper()), ("lower", text.lower())):
            if UNKNOWN_ID not in self._processor.encode(other):
                raise InputError(
                    f"the tokenizer was trained on {case} case, and the transcript is in another: convert the "
                    f"transcripts to {case} case, or train the tokenizer on them"
                )
        unknown = next(
            character for character in text if self._processor.piece_to_id(_as_piece(character)) == UNKNOWN_ID
        )
        raise InputError(
            f"character '{unknown}' of '{_word_with(text, unknown)}' is not in the tokenizer's vocabulary: "
            "normalise the text, or train the tokenizer on text that has the character"
        )


def train_tokenizer(texts: Iterable[str], kind: Kind, vocab_size: int | None = None) -> SentencePieceTokenizer:
    """Train a tokenizer on transcripts; the same texts in the same order give the same bytes.

    Args:
        texts: transcripts; white space is stripped and collapsed, blank ones are left out.
        kind: `bpe` or `unigram`, or `char` for all the characters of the texts.
        vocab_size: number of ids, blank and unknown included; None for `char`.

    Raises:
        InputError: no text, a reserved symbol, an unknown kind, or an impossible `vocab_size`.
    """
    sentences = [normalised(text) for text in texts if text.strip()]
    if not sentences:
        raise InputError("no text to train a tokenizer on: give at least one transcript that is not blank")
    size = _check_vocab_size(kind, vocab_size, sentences)
    return SentencePieceTokenizer(_train(sentences, kind, size), kind)


def load_tokenizer(directory: Path | str) -> SentencePieceTokenizer:
    """Load a tokenizer from the directory that `Tokenizer.save` wrote.

    Raises:
        InputError: a file is missing or unreadable, or the files do not belong together.
    """
    directory = Path(directory)
    return parse_tokenizer(lambda name: _read(directory / name), directory)


def parse_tokenizer(read: Callable[[str], bytes], directory: Path) -> SentencePieceTokenizer:
    """The tokenizer whose files `read` gives by name. directory: where messages say that they are; raises as above."""
    model, tokens = read(_MODEL_FILE), read(_TOKENS_FILE)
    kind, sha256 = _parse_description(read(_DESCRIPTION_FILE), directory / _DESCRIPTION_FILE)
    if _sha256(model) != sha256:
        _refuse_changed(directory / _MODEL_FILE)
    tokenizer = SentencePieceTokenizer(model, kind)
    if tokenizer._tokens() != tokens:
        _refuse_changed(directory / _TOKENS_FILE)
    return tokenizer


def pieces_digest(tokenizer: Tokenizer) -> str:
    """Tells the pieces of a tokenizer from others: checkpoints keep it."""
    return _sha256("\n".join(tokenizer.pieces).encode())


def _train(sentences: list[str], kind: Kind, vocab_size: int) -> bytes:
    try:
        return _sentencepiece(sentences, kind, vocab_size)
    except RuntimeError as error:
        largest = _largest(error)
        if largest is not None:
            raise _too_large(vocab_size, _smallest_vocab_size(sentences), largest) from error
        message = " ".join(str(error).split())
        raise InputError(f"SentencePiece cannot train on these texts: {message}; check the texts") from error


def _sentencepiece(sentences: list[str], kind: str, vocab_size: int) -> bytes:
    """A model, serialised. Raises RuntimeError where SentencePiece cannot make one."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size,
        pad_id=BLANK_ID,
        pad_piece=_BLANK,
        unk_id=UNKNOWN_ID,
        unk_piece=_UNKNOWN,
        bos_id=-1,
        eos_id=-1,
        character_coverage=1.0,
        normalization_rule_name="identity",
        max_sentence_length=1 << 30,  # the default silently drops texts longer than 4192 bytes
        num_threads=1,  # for reproducibility
        minloglevel=2,
    )
    return model.getvalue()


def _largest(error: RuntimeError) -> int | None:
    """The largest vocabulary that the texts allow, where SentencePiece says so."""
    found = re.search(r"Vocabulary size too high.*<= (\d+)", str(error))
    return int(found[1]) if found else None


def _too_large(vocab_size: int, smallest: int, largest: int) -> InputError:
    return InputError(
        f"vocab_size {vocab_size} is too large for the text: the largest possible is {largest}; "
        f"give {smallest} to {largest}, or more text"
    )


def _check_vocab_size(kind: str, vocab_size: int | None, sentences: list[str]) -> int:
    """The number of ids to train."""
    _check_kind(kind)
    smallest = _smallest_vocab_size(sentences)
    if kind == "char":
        if vocab_size is not None:
            raise InputError("a char tokenizer takes all characters of the text: leave vocab_size out")
        return smallest
    if vocab_size is None:
        raise InputError(f"a {kind} tokenizer needs a vocabulary size: set vocab_size, {_range_of(kind, sentences)}")
    if vocab_size < smallest:
        raise InputError(
            f"vocab_size {vocab_size} is too small for the text's characters: the smallest is {smallest}; "
            f"give {_range_of(kind, sentences)}"
        )
    return vocab_size


def _range_of(kind: str, sentences: list[str]) -> str:
    """The sizes that a vocabulary of these texts may have, in words."""
    smallest = _smallest_vocab_size(sentences)
    tried = max(USUAL_VOCAB_SIZE, smallest)
    try:
        _sentencepiece(sentences[:FIRST_SENTENCES], kind, tried)
    except RuntimeError as error:
        largest = _largest(error)
        return f"{smallest} to {largest} for these texts" if largest else f"at least {smallest}"
    return f"at least {smallest} for these texts, for example {tried}"


def _check_kind(kind: str, place: str = "") -> None:
    if kind not in get_args(Kind):
        raise InputError(f"{place}unknown kind of tokenizer '{kind}': use one of {', '.join(get_args(Kind))}")


def _smallest_vocab_size(sentences: list[str]) -> int:
    # Every sentence begins with the space piece, so it is there even in text without spaces.
    characters = {" "}.union(*sentences)
    return len({BLANK_ID, UNKNOWN_ID}) + len(characters)


def normalised(text: str) -> str:
    """The text, white space stripped and collapsed. Raises InputError where it is blank or has a reserved symbol."""
    text = _collapse(text)
    if not text:
        raise InputError("empty transcript: remove the utterance or give it text")
    reserved = _RESERVED.search(text)
    if reserved:
        word = ascii(_word_with(text, reserved[0]))
        remedy = "remove it from the transcript"
        if reserved[0] == _UNKNOWN:
            remedy = "it marks what nobody understood; leave out the utterance, or write what was said"
        raise InputError(f"{reserved[0]!a} in {word} is reserved: {remedy}")
    return text


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _word_with(text: str, symbol: str) -> str:
    return next(word for word in text.split() if symbol in word)


def _as_piece(character: str) -> str:
    return SPACE if character == " " else character


def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError) as error:
        raise InputError("not a SentencePiece model: train the tokenizer again") from error


def _parse_description(content: bytes, path: Path) -> tuple[Kind, str]:
    try:
        fields = json.loads(content)
        kind, sha256 = fields["kind"], fields["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' does not describe a tokenizer: train the tokenizer again") from error
    _check_kind(kind, f"'{path}': ")
    return kind, sha256


def _refuse_changed(path: Path) -> NoReturn:
    raise InputError(
        f"'{path}' does not agree with {_DESCRIPTION_FILE}: it is damaged or from another tokenizer; "
        "restore it or train the tokenizer again"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read '{path}': {error.strerror}; give the directory of a trained tokenizer"
        ) from error
