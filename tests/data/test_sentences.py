"""Sentences: what is cut, what is not, and that nothing is lost."""

import random

import pytest

from research.data.sentences import split_sentences
from research.data.sources import SourceConfig, read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\n\t ", []),
        ("no end", ["no end"]),
        ("One.  Two!\tThree?", ["One.", "Two!", "Three?"]),
        ("Mr. Smith left at 3.5 p.m. sharp. J. K. Rowling came.", None),
        ("A title\n\nIt begins. It ends.", ["A title", "It begins.", "It ends."]),
        ("One.\r\n \r\nTwo.", ["One.", "Two."]),
        ("A line\nthat goes on. Next.", ["A line\nthat goes on.", "Next."]),
        ("Grüße 😀. Très bien!", ["Grüße 😀.", "Très bien!"]),
        ('"Really? Yes." He left.', ['"Really? Yes."', "He left."]),
    ],
)
def test_cases(text, expected):
    if expected is None:
        expected = ["Mr. Smith left at 3.5 p.m. sharp.", "J. K. Rowling came."]
    assert split_sentences(text) == expected


def test_a_long_quotation_and_an_unclosed_mark_are_opened():
    spoken = "I saw the ship come in (the old one). Nobody was on deck! Was it empty? "
    for opening, closing in (('"', '"'), ("'", ""), ("(", ""), ("“", "”")):
        sentences = split_sentences(opening + (spoken * 8).strip() + closing + " He left.")
        assert len(sentences) == 25
        assert sentences[0] == opening + "I saw the ship come in (the old one)."
        assert sentences[-2:] == ["Was it empty?" + closing, "He left."]


def check_slices(text):
    end = 0
    for sentence in split_sentences(text):
        assert sentence and sentence == sentence.strip()
        start = text.index(sentence, end)
        assert not text[end:start].strip()
        end = start + len(sentence)
    assert not text[end:].strip()


def test_sentences_are_slices_in_order_and_nothing_else_is_left_of_a_text():
    rng = random.Random(0)
    parts = [
        "word",
        "Word",
        "Mr.",
        ".",
        "!",
        "?",
        "...",
        " ",
        "  ",
        "\n",
        "\n\n",
        '"',
        "'",
        "(",
        ")",
    ]
    parts += ["“", "”", "é", "😀", "中文。", "\u200b", "\u2028", "3.5", "--", "[", "]", "\t"]
    for _ in range(500):
        check_slices("".join(rng.choice(parts) for _ in range(rng.randrange(200))))


@pytest.mark.parametrize("name", ["brown", "jane_austen", "state_of_the_union"])
def test_bundled_text_has_sentences_of_sensible_length(name):
    lengths = []
    for example in read(SourceConfig(f"bundled:corpus/{name}", take=60), "document"):
        check_slices(example["text"])
        lengths += [len(sentence.split()) for sentence in split_sentences(example["text"])]
    lengths.sort()
    assert 10 <= lengths[len(lengths) // 2] <= 40
    assert lengths[int(0.99 * len(lengths))] <= 140
    assert lengths[-1] <= 600
