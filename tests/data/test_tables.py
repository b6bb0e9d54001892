"""Tables: separators, headers, columns without names, unclosed quotations."""

import csv

import pytest

from research.data import files
from research.data.sources import SourceConfig, read
from research.errors import UserError


def listed(path, kind="classification", **others):
    return list(read(SourceConfig(f"files:{path}", **others), kind))


def pairs(path, **others):
    return [(e["text"], e["label"]) for e in listed(path, **others)]


def put(path, text):
    path.write_bytes(text.encode())
    return path


def fault(path, **others):
    with pytest.raises(UserError) as caught:
        listed(path, **others)
    return str(caught.value)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_separates_the_columns_is_seen(tmp_path, mark, end):
    lines = ["\ufefftext,label", "Fine; really | yes,pos", '"One, two",neg', "", ""]
    table = [next(csv.reader([line]), []) for line in lines]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=mark, lineterminator=end).writerows(table)
    assert pairs(tmp_path / "t.csv") == [("Fine; really | yes", "pos"), ("One, two", "neg")]


def test_commas_in_texts_do_not_hide_semicolons(tmp_path):
    path = put(
        tmp_path / "t.csv", "text, in full;label\nGood, very good;pos\nBad, so bad, no;neg\n"
    )
    got = pairs(path, fields={"text": "text, in full"})
    assert got == [("Good, very good", "pos"), ("Bad, so bad, no", "neg")]


def test_excels_own_line_says_what_separates(tmp_path):
    assert pairs(put(tmp_path / "t.csv", "sep=;\r\ntext;label\r\na,b;x\r\n")) == [("a,b", "x")]


def test_columns_without_a_name_do_not_matter(tmp_path):
    path = put(tmp_path / "t.csv", "text,label,,\nLovely staff.,positive,,\nToo loud.,negative,,\n")
    assert pairs(path) == [("Lovely staff.", "positive"), ("Too loud.", "negative")]
    short = put(
        tmp_path / "s.csv", "text,label,,\nLovely staff.,positive\nToo loud.,negative,,,,\n"
    )
    assert pairs(short) == [("Lovely staff.", "positive"), ("Too loud.", "negative")]
    index = put(tmp_path / "i.csv", ",text,label\n0,Lovely staff.,positive\n")
    assert pairs(index) == [("Lovely staff.", "positive")]
    assert pairs(index, fields={"text": "column 1"}) == [("0", "positive")]


def test_blank_records_and_a_second_header_are_left_out(tmp_path):
    path = put(tmp_path / "t.csv", "text,label\na,x\n,,\ntext,label\nb,y\n,\n")
    rows = list(files.rows([path]))
    assert [row.fields["text"] for row in rows if not row.left_out] == ["a", "b"]
    assert [(row.where[-6:], row.left_out) for row in rows if row.left_out] == [
        ("line 3", "a record of empty cells"),
        ("line 4", "the header again"),
        ("line 6", "a record of empty cells"),
    ]
    assert pairs(path) == [("a", "x"), ("b", "y")]


# --- a header that is missing

HEADLESS = "Lovely staff.,positive\nToo loud.,negative\nClean rooms.,positive\n"


def test_a_missing_header_is_recognised_and_every_row_can_be_read(tmp_path):
    path = put(tmp_path / "t.csv", HEADLESS)
    for fields in ({}, {"text": "Lovely staff.", "label": "positive"}):
        message = fault(path, fields=fields)
        assert "line 1 is taken for the header, but 'positive' is also" in message
        assert "line 3" in message and 'format="without_header"' in message
    columns = {"text": "column 1", "label": "column 2"}
    assert pairs(path, format="without_header", fields=columns) == [
        ("Lovely staff.", "positive"),
        ("Too loud.", "negative"),
        ("Clean rooms.", "positive"),
    ]


def test_a_header_whose_name_is_a_value_too_can_be_said_to_be_one(tmp_path):
    path = put(tmp_path / "t.csv", "word,class\nthe,det\nword,noun\n")
    names = {"text": "word", "label": "class"}
    assert "line 1 is taken for the header" in fault(path, fields=names)
    assert pairs(path, fields=names, format="with_header") == [("the", "det"), ("word", "noun")]


def test_a_header_of_our_names_is_one_whatever_stands_below(tmp_path):
    assert pairs(put(tmp_path / "t.csv", "text,label\ntext,x\nlabel,x\n")) == [
        ("text", "x"),
        ("label", "x"),
    ]


def test_a_missing_column_says_that_line_1_is_the_header(tmp_path):
    message = fault(put(tmp_path / "t.csv", "Lovely staff.,positive\nToo loud.,negative\n"))
    assert "there are: Lovely staff., positive" in message
    assert "a table with commas, line 1 is taken for its header" in message


# --- quotations that do not end

ROWS = [f"Row {i}.,neutral" for i in range(1, 11)]


def table(path, spoilt):
    lines = ["text,label", *ROWS]
    for number, line in spoilt.items():
        lines[number - 1] = line
    return put(path, "\n".join(lines) + "\n")


def told(path):
    errors = []
    rows = list(files.rows([path], errors.append))
    return [row.fields["text"] for row in rows], [str(error) for error in errors]


def test_a_quotation_that_does_not_end_spoils_its_line_alone(tmp_path):
    path = table(tmp_path / "t.csv", {5: '"A large screen,neutral'})
    texts, errors = told(path)
    assert texts == [f"Row {i}." for i in range(1, 11) if i != 4]
    assert len(errors) == 1
    assert "line 5" in errors[0] and "does not end and swallows lines 6 to 11" in errors[0]
    assert "swallows lines 6 to 11" in fault(path)


def test_a_quotation_that_ends_in_a_later_one_spoils_its_line_alone(tmp_path):
    texts, errors = told(table(tmp_path / "t.csv", {3: '"Open,neutral', 7: '"Good, too",neutral'}))
    assert texts == ["Row 1.", *[f"Row {i}." for i in (3, 4, 5)], "Good, too"] + [
        f"Row {i}." for i in range(7, 11)
    ]
    assert len(errors) == 1 and "line 3" in errors[0] and "swallows lines 4 to 7" in errors[0]


def test_several_lines_in_one_cell_are_whole_even_where_the_record_is_not(tmp_path):
    path = put(tmp_path / "t.csv", 'text,label\n"one\ntwo, three\nfour"\nRow,neutral\n')
    texts, errors = told(path)
    assert texts == ["Row"] and len(errors) == 1 and "line 2: 1 fields" in errors[0]


# --- .tsv

TSV = [["text", "label"], ['"Great," he said.', "pos"], ['A "so-so" film', "neg"], ["Plain", "pos"]]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_tsv_that_quotes_its_cells(tmp_path, quoting):
    rows = [*TSV, ["two\nlines", "neg"], ["a\ttab", "neg"]]
    with (tmp_path / "t.tsv").open("w", newline="") as file:
        csv.writer(file, "excel-tab", quoting=quoting).writerows(rows)
    assert pairs(tmp_path / "t.tsv") == [tuple(row) for row in rows[1:]]


@pytest.mark.parametrize("cell", ['"Great," he said.', '"Great."', '"', '"open', '"a" and "b"'])
def test_a_tsv_in_which_quotation_marks_are_text(tmp_path, cell):
    rows = [["text", "label"], [cell, "pos"], ["Plain", "neg"], ["More", "pos"]]
    path = put(tmp_path / "t.tsv", "".join("\t".join(row) + "\r\n" for row in rows) + "\r\n")
    assert pairs(path) == [tuple(row) for row in rows[1:]]
    (row, *_) = files.rows([path])
    assert row.read_as.endswith("quotation marks are part of the text")


def test_a_tsv_with_a_row_of_another_width_names_it(tmp_path):
    message = fault(put(tmp_path / "t.tsv", "text\tlabel\na\tx\nb\tc\ty\n"))
    assert "line 3: 3 fields, but the header has 2" in message
