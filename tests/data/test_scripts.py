"""Scripts without blanks: characters for words, and no blanks where none belong."""

import pytest

from asr.data.scripts import joined, units_of_text, width, without_blanks

THAI = "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"  # two of its six characters are marks


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("the cat sat", ["the", "cat", "sat"]),
        ("今天天气", ["今", "天", "天", "气"]),
        ("我love你 so 好", ["我", "love", "你", "so", "好"]),
        ("ひらがなカタカナ", list("ひらがなカタカナ")),
        ("한국어 띄어쓰기", ["한국어", "띄어쓰기"]),
        (THAI, ["\u0e2a", "\u0e27\u0e31", "\u0e2a", "\u0e14\u0e35"]),
        (
            "e\u0301te\u0301 \u0928\u092e\u0938\u094d\u0924\u0947",
            ["e\u0301te\u0301", "\u0928\u092e\u0938\u094d\u0924\u0947"],
        ),
        ("", []),
    ],
)
def test_units_of_a_text(text, units):
    assert units_of_text(text) == units
    assert "".join(units) == text.replace(" ", "")


def test_units_are_joined_as_they_are_written():
    assert joined(["the", "cat"]) == "the cat"
    assert joined(list("今天天气")) == "今天天气"
    assert joined(["한국어", "띄어쓰기"]) == "한국어 띄어쓰기"
    assert joined(["我", "love", "你", "so", "much"]) == "我love你so much"
    assert joined([]) == ""


def test_scripts_and_widths():
    assert [without_blanks(text) for text in ("abc", "今", "é", "글", THAI, "a今")] == [
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    assert (width("abc"), width("今天"), width("e\u0301"), width("글a")) == (3, 4, 1, 3)
