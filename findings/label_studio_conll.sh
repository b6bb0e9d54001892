#!/usr/bin/env bash
# label-studio-sdk 2.1.2 (with nltk 3.10.4): exporting entity spans as CoNLL 2003 changes them without
# a word. Tokens are cut once for the whole text, and a token that a span touches takes its label:
#   - a span over a part of a token ("15" in "iPhone15") becomes the whole token;
#   - of two spans inside one token ("Smith" and "Jones" in "Smith-Jones") the second one vanishes;
#   - of two nested spans the inner one vanishes, in whichever order they are listed;
#   - a full stop that ends a sentence inside the text belongs to its token, so the same word is the
#     entity "Rome." there and "Rome" at the text's end.
# Expected: each span as it was annotated, or a warning with a count of those that could not be kept.
# Matters to whoever trains or scores on such an export: entity counts and borders are not those of
# the annotators. Reading the JSON export keeps the spans.
#
# Run: bash findings/label_studio_conll.sh    (installs into a temporary folder, about a minute)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check label-studio-sdk==2.1.2 nltk==3.10.4
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

from label_studio_sdk.converter import Converter

VIEW = """<View><Labels name="label" toName="text"><Label value="PER"/><Label value="LOC"/></Labels>
<Text name="text" value="$text"/></View>"""


def exported(text, *spans):
    """[(token, tag)] of the CoNLL 2003 export of one text with (start, end, label) spans."""
    folder = Path(mkdtemp())
    results = [
        dict(id=str(i), from_name="label", to_name="text", type="labels",
             value=dict(start=start, end=end, text=text[start:end], labels=[label]))
        for i, (start, end, label) in enumerate(spans)
    ]
    task = dict(id=1, data=dict(text=text), annotations=[dict(id=1, result=results)])
    (folder / "tasks.json").write_text(json.dumps([task]))
    converter = Converter(VIEW, project_dir=str(folder))
    converter.convert(str(folder / "tasks.json"), str(folder / "out"), "CONLL2003", is_dir=False)
    (file,) = (p for p in (folder / "out").rglob("*") if p.is_file())
    rows = [line.split() for line in file.read_text().splitlines() if line.strip()]
    return [(row[0], row[-1]) for row in rows if row[0] != "-DOCSTART-"]


def entities(rows):
    return [(token, tag) for token, tag in rows if tag != "O"]


print("label-studio-sdk", version("label-studio-sdk"), "nltk", version("nltk"))
cases = [
    ("part of a token", exported("the iPhone15 is", (10, 12, "LOC")), [("iPhone15", "B-LOC")]),
    ("two in one token", exported("Mr. Smith-Jones left.", (4, 9, "PER"), (10, 15, "LOC")),
     [("Smith-Jones", "B-PER")]),
    ("nested", exported("University of Rome", (14, 18, "LOC"), (0, 18, "PER")),
     [("University", "B-PER"), ("of", "I-PER"), ("Rome", "I-PER")]),
    ("two sentences", exported("She lives in Rome. He lives in Rome.", (13, 17, "LOC"), (31, 35, "LOC")),
     [("Rome.", "B-LOC"), ("Rome", "B-LOC")]),
]  # fmt: skip
for name, rows, seen in cases:
    print(f"{name:18}", rows)
    assert entities(rows) == seen, f"{name}: the behaviour has changed, now {entities(rows)}"
print("as described above")
PYTHON
