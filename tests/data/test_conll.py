"""CoNLL columns in the variants that the known sets have."""

import pytest

from research.data import conll, files
from research.data.sources import SourceConfig, read
from research.errors import UserError


def listed(path, kind="tokens", **others):
    return list(read(SourceConfig(f"files:{path}", **others), kind))


def put(path, text):
    path.write_bytes(text.encode())
    return path


CONLL2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
call NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- -X- O

# # O O


"""


def test_conll_2003(tmp_path):
    path = put(tmp_path / "train.txt", CONLL2003)
    assert listed(path) == [
        {
            "id": "train.txt:3",
            "tokens": ["EU", "rejects", "German", "call"],
            "tags": ["B-ORG", "O", "B-MISC", "O"],
        },
        {"id": "train.txt:8", "tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]},
        {"id": "train.txt:13", "tokens": ["#"], "tags": ["O"]},
    ]
    chunks = listed(path, fields={"tags": "3"})
    assert chunks[0]["tags"] == ["B-NP", "B-VP", "B-NP", "I-NP"]
    assert listed(path, fields={"tags": "2"})[0]["tags"] == ["NNP", "VBZ", "JJ", "NN"]


def test_iob1_becomes_bio(tmp_path):
    # B- only between two entities of one type, as in the original distribution.
    lines = "U.N. I-ORG\nin O\nParis I-LOC\nRome B-LOC\nJohn I-PER\nSmith I-PER\n"
    assert listed(put(tmp_path / "a.iob", lines))[0]["tags"] == [
        "B-ORG",
        "O",
        "B-LOC",
        "B-LOC",
        "B-PER",
        "I-PER",
    ]


@pytest.mark.parametrize(
    "tags",
    [
        "B-PER E-PER O S-LOC S-LOC B-ORG I-ORG E-ORG",  # BIOES
        "B-PER L-PER O U-LOC U-LOC B-ORG I-ORG L-ORG",  # BILOU
        "B-PER E-PER O S-LOC S-LOC B-ORG M-ORG E-ORG",  # BMES
        "B-PER I-PER O B-LOC B-LOC B-ORG I-ORG I-ORG",
        "I-PER I-PER O I-LOC B-LOC I-ORG I-ORG I-ORG",  # IOB1
    ],
)
def test_schemes_become_bio(tags):
    right = "B-PER I-PER O B-LOC B-LOC B-ORG I-ORG I-ORG"
    assert conll.bio(tags.split()) == right.split()


def test_tags_that_mark_no_places_stay():
    for tags in (["NNP", "VBZ"], ["O", "NOUN"], ["U-", "B"], ["per", "O"]):
        assert conll.bio(tags) == tags
    assert conll.bio(["I", "I", "O", "B", "I"]) == ["B", "I", "O", "B", "I"]


def test_wnut_has_tabs_and_marks_of_all_kinds(tmp_path):
    text = (
        "\ufeff@paulwalk\tO\r\nEmpire\tB-location\r\nState\tI-location\r\n\r\n"
        "#\tO\r\nNew York\tB-location\r\n\t\r\n#hash\tO\r\n\r\n\r\n"
    )
    assert [(e["tokens"], e["tags"]) for e in listed(put(tmp_path / "w.conll", text))] == [
        (["@paulwalk", "Empire", "State"], ["O", "B-location", "I-location"]),
        (["#", "New York"], ["O", "B-location"]),
        (["#hash"], ["O"]),
    ]


def test_comments_stand_before_the_words(tmp_path):
    text = (
        "# id 3e1f domain=en\nthe _ _ O\nlake _ _ B-LOC\n\n"
        "# sent_id = 2\n# text = # 1\n# _ _ O\n1 _ _ O\n"
    )
    got = listed(put(tmp_path / "m.conll", text))
    assert [e["tokens"] for e in got] == [["the", "lake"], ["#", "1"]]


def test_a_first_column_that_counts_the_words(tmp_path):
    text = "#\thttp://example.org\n1\tSchartau\tB-PER\tO\n2\tsagte\tO\tO\n\n1\tJa\tO\tO\n"
    path = put(tmp_path / "germ.bio", text)
    got = listed(path, fields={"tags": "3"})
    assert [(e["tokens"], e["tags"]) for e in got] == [
        (["Schartau", "sagte"], ["B-PER", "O"]),
        (["Ja"], ["O"]),
    ]


def test_conll_u_names_its_columns(tmp_path):
    rows = [
        ["1-2", "vámonos", *"________"],
        ["1", "vamos", "ir", "VERB", *"______"],
        ["2", "nos", "nosotros", "PRON", *"______"],
        ["2.1", "e", "e", "X", *"______"],
        ["3", "al", "al", "ADP", *"______"],
    ]
    text = "# newdoc id = 1\n# text = vámonos al\n" + "\n".join(map("\t".join, rows)) + "\n\n"
    path = put(tmp_path / "es.conllu", text)
    (example,) = listed(path, fields={"tags": "UPOS"})
    assert example["tokens"] == ["vamos", "nos", "al"]
    assert example["tags"] == ["VERB", "PRON", "ADP"]
    with pytest.raises(UserError, match="no field 'tags'; there are: .*UPOS"):
        listed(path)


def test_any_file_is_columns_if_one_says_so(tmp_path):
    path = put(tmp_path / "train.data", "Ada B-PER\nlives O")
    assert listed(path, format="conll")[0]["tokens"] == ["Ada", "lives"]
    (row,) = files.rows([path], format="conll")
    assert row.read_as == "CoNLL columns, words in 1, tags in 2"


def test_a_line_that_lacks_a_column_is_named(tmp_path):
    path = put(tmp_path / "a.conll", "Ada B-PER\nlives\n\nin O\n")
    with pytest.raises(UserError, match=r"a.conll, line 2: .* 2 in line 1"):
        listed(path)
    errors = []
    assert [row.fields["tokens"] for row in files.rows([path], errors.append)] == [["in"]]
    assert len(errors) == 1


def test_a_sentence_of_nothing_but_the_numbers_of_its_words_is_named(tmp_path):
    path = put(tmp_path / "a.conll", "1 Ada B-PER\n2 wrote O\n\n1\n2\n")
    with pytest.raises(UserError, match="a.conll, line 4: one column.* the second column"):
        listed(path)
