"""Texts: the documents of a .txt, and that few texts still have some to hold out."""

import pytest

from research.data import files, sources, texts
from research.data.sources import SourceConfig, pieces, read
from research.errors import UserError

TEXT = "First line\nof one.\n\n  \nSecond.\n\n\nThird.\n"


def listed(path, kind="document", **others):
    return list(read(SourceConfig(f"files:{path}", **others), kind))


def put(path, text):
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("document", "right"),
    [
        ("line", {1: "First line", 2: "of one.", 5: "Second.", 8: "Third."}),
        ("paragraph", {1: "First line\nof one.", 5: "Second.", 8: "Third."}),
    ],
)
def test_lines_and_paragraphs(tmp_path, document, right):
    for text in (TEXT, TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT.rstrip("\n")):
        got = listed(put(tmp_path / "a.txt", text), document=document)
        stem = "a.txt" if document == "line" else "a"
        assert {e["id"]: e["text"] for e in got} == {f"{stem}:{n}": t for n, t in right.items()}


def test_a_file(tmp_path):
    (got,) = listed(put(tmp_path / "a.txt", TEXT), document="file")
    assert got == {"id": "a", "title": "a", "text": TEXT}
    (story,) = listed(tmp_path / "a.txt", "story")
    assert story == got


def test_few_texts_are_cut_into_parts_of_one_size(tmp_path):
    paragraphs = [f"Paragraph {i} " + "word " * (i % 40) for i in range(5000)]
    path = put(tmp_path / "a.txt", "\n\n".join(paragraphs) + "\n")
    got = listed(path)
    assert 0.8 * texts.PARTS < len(got) <= texts.PARTS
    assert "\n\n".join(e["text"] for e in got) == "\n\n".join(paragraphs)
    sizes = [len(e["text"]) for e in got[:-1]]
    assert max(sizes) < 1.3 * min(sizes)
    assert len({e["id"] for e in got}) == len(got) and got[0]["title"] == "a"
    held_out = [e for e in got if sources.held_out(e["id"])]
    assert 1 <= len(held_out) <= 30
    put(tmp_path / "b.txt", "\n\n".join(paragraphs))
    assert 0.8 * texts.PARTS < len(listed(tmp_path / "*.txt")) <= texts.PARTS
    both = pieces(SourceConfig(f"files:{tmp_path}/*.txt"))
    assert [e for piece in both for e in piece()] == listed(tmp_path / "*.txt")


def test_a_text_without_blank_lines_is_cut_at_line_ends(tmp_path):
    lines = [f"Line {i} of many." for i in range(2000)]
    got = listed(put(tmp_path / "a.txt", "\n".join(lines)))
    assert 0.8 * texts.PARTS < len(got) <= texts.PARTS
    assert "\n".join(e["text"] for e in got).split("\n") == lines


def test_many_texts_are_a_document_each(tmp_path):
    for i in range(texts.PARTS // 2 + 1):
        put(tmp_path / f"{i:03d}.txt", f"Text {i}.\n\nMore of it.\n")
    got = listed(tmp_path / "*.txt")
    assert len(got) == texts.PARTS // 2 + 1 and got[0]["text"] == "Text 0.\n\nMore of it.\n"


def test_a_wrong_choice_is_named(tmp_path):
    path = put(tmp_path / "a.txt", TEXT)
    with pytest.raises(UserError, match="did you mean 'paragraph'"):
        listed(path, document="paragraphs")
    with pytest.raises(UserError, match="is for texts"):
        listed(put(tmp_path / "a.jsonl", '{"text": "a"}'), document="line")
    assert not any(row.left_out for row in files.rows([path]))
