"""The audit: leaks of held-out texts into corpora, and pairs that are told without reading."""

import json
import re

import pytest

from benchmarks import audit
from research.errors import UserError
from tests import helpers


def config_file(path, values):
    path.write_text(f"def get_config(arg=''):\n    return {values!r}\n")
    return str(path)


@pytest.fixture
def pretraining(tmp_path):
    """A pre-training on two sources, of which the second has a text that is tested on."""
    values = helpers.run_values("bert", tmp_path, steps=1)
    values["data"] |= {"train": None, "validation": None}
    leak = " ".join(f"nam{number}" for number in range(20))
    documents = [
        {"id": f"b{i}", "text": f"Ite sen {i}. Mol lar {i}. Tin ale {i}."} for i in range(9)
    ]
    documents.append({"id": "leak", "text": f"Nam ite. {leak}. Sen mol."})
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    rows = [{"id": "1", "text": leak, "label": "good"}, {"id": "2", "text": "Nam.", "label": "bad"}]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    second = {"name": f"files:{tmp_path}/b.jsonl", "exclude": (f"files:{tmp_path}/held_out.jsonl",)}
    values["data"]["corpus"] = [*values["data"]["corpus"], second]
    return values


def test_what_leaks_is_named_with_its_corpus_and_what_is_excluded(pretraining, tmp_path, capsys):
    task = helpers.run_values("sentiment", tmp_path, steps=1)
    task["data"]["validation"] = f"files:{tmp_path}/held_out.jsonl"
    files = (config_file(tmp_path / f"{n}.py", v) for n, v in (("p", pretraining), ("t", task)))
    assert audit.run(*files, cache=str(tmp_path / "cache")) == 0
    shown = capsys.readouterr().out
    first, second = re.findall(
        r"t, validation, corpora (.*): (\S+) % of .* \((\d) of 2; 1 are", shown
    )
    assert first == ("as they are", "50.00", "1")
    assert second == ("without what is excluded", "0.00", "0")
    assert f"    files:{tmp_path}/b.jsonl: 1 examples" in shown
    assert f"  files:{tmp_path}/b.jsonl: 1 of 10 documents: leak" in shown
    learnt, held_out = map(
        int, re.search(r"epoch: (\d+) to learn from, (\d+) held", shown).groups()
    )
    assert sum(int(n) for n in re.findall(r"block \d+: \S+ random of (\d+)", shown)) == learnt
    lines = [line.split() for line in shown.splitlines()]
    rows = {line[0]: line[1:] for line in lines if len(line) == 8 and line[1].isdigit()}
    assert int(rows.pop("all")[0]) == held_out == sum(int(row[0]) for row in rows.values()) > 0
    assert {f"files:{tmp_path}/corpus.jsonl"} <= rows.keys()


def test_a_fine_tuning_has_no_corpus_to_look_at(tmp_path):
    file = config_file(tmp_path / "t.py", helpers.run_values("sentiment", tmp_path, steps=1))
    with pytest.raises(UserError, match="is a fine-tuning; give the config of a pre-training"):
        audit.run(file, cache=str(tmp_path / "cache"))


@pytest.mark.long
def test_the_bundled_tasks_are_not_in_what_the_pre_training_reads(tmp_path, capsys):
    assert audit.run(cache=str(tmp_path)) == 0
    shown = capsys.readouterr().out
    # One of the 44 test sentences in the addresses is a phrase of another one.
    assert "    bundled:corpus/state_of_the_union: 44 examples" in shown
    after = re.findall(r"what is excluded: (\S+) % of the examples", shown)
    assert len(after) == 4 and max(map(float, after)) < 0.5
    blocks = [float(share) for share in re.findall(r"block \d+: (\S+) random of", shown)]
    assert len(blocks) == 6 and all(abs(share - 0.5) <= 0.03 for share in blocks)
    (every,) = [line.split()[1:] for line in shown.splitlines() if line.startswith("  all  ")]
    pairs, random, other, *rules = (float(cell.replace(",", "")) for cell in every)
    assert pairs > 900 and abs(random - 0.5) <= 0.03 and other == 0
    assert len(rules) == 4 and max(rules) < 0.6
