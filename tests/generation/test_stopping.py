"""Stop strings, and the streaming of texts."""

import random

import pytest

from research.generation import stopping
from research.generation.stopping import Stream
from tests import helpers


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n\n", "\n\n"),
        ("\n", "\n"),
        (r"a\tb", "a\tb"),
        (r"\\n", r"\n"),
        (r"\d", r"\d"),
        (" ", " "),
    ],
)
def test_escapes_are_what_a_shell_hands_on(typed, meant):
    assert stopping.unescape(typed) == meant


def test_cut_before_the_first():
    assert stopping.cut("a.b.c", ["."]) == "a"
    assert stopping.cut("abc", ["."]) == "abc"
    assert stopping.cut(".abc", ["."]) == ""
    assert stopping.cut("abc", []) == "abc"
    assert stopping.cut("a.b, c", [",", "."]) == "a"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("abc", [], "abc"),
        ("ab\ufffd\ufffd", [], "ab"),
        ("a\ufffdb", [], "a\ufffdb"),
        ("ab\n", ["\n\n"], "ab"),
        ("ab\n\n", ["\n\n"], "ab"),
        ("ab\n\nc\n", ["\n\n"], "ab"),
        ("abca", ["abcabd"], ""),
        ("xabcab\ufffd", ["abcabd"], "x"),
        ("abx", ["abc"], "abx"),
        ("xyab", ["abc", "yabd"], "x"),
        ("xabcd", ["bc", "abcde"], "x"),
    ],
)
def test_only_what_cannot_change_is_settled(text, stop, expected):
    assert stopping.settled(text, stop) == expected


@pytest.mark.parametrize("stop", [[], ["ïf"], ["日本 \n"], ["日本 ", "rd\n", "ï"]])
def test_a_stream_is_the_text_and_never_half_a_character(stop):
    tokenizer = helpers.byte_pairs()
    draw = random.Random(0)
    for _ in range(30):
        text = "".join(draw.choices(["naïf", "日本", " ", "\n", "🙂", "word", "é"], k=12))
        ids = tokenizer.encode(text).ids.tolist()
        written: list[str] = []
        stream = Stream(written.append, stop)
        for size in range(1, len(ids)):
            stream.update(tokenizer.decode(ids[:size]))
            assert text.startswith("".join(written))
        stream.finish(tokenizer.decode(ids))
        assert "".join(written) == stopping.cut(text, stop)
        assert len(written) > 1 or stop


def test_what_is_left_of_a_character_is_written_at_the_end():
    written: list[str] = []
    stream = Stream(written.append)
    stream.update("ab\ufffd")
    assert written == ["ab"]
    stream.finish("ab\ufffd")
    assert "".join(written) == "ab\ufffd"


def test_a_text_that_turns_out_otherwise_begins_anew():
    written: list[str] = []
    stream = Stream(written.append)
    stream.update("it '")
    stream.update("it's")
    assert written == ["it '"]
    stream.finish("it's so")
    assert "".join(written) == "it '\nit's so"
