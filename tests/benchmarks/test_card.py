"""What one accelerator does: the tables of docs are those of the file, and every part runs."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import card, card_parts
from research.errors import UserError
from tests import helpers

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks" / "card" / "h200.json"


def test_the_tables_of_docs_are_those_of_the_file(capsys):
    assert card.run(table=str(MEASURED)) == 0
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for table in capsys.readouterr().out.strip().split("\n\n"):
        assert table in page, f"not in docs/performance.md as it is printed:\n{table}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "--output=FILE"),
        ({"output": "x.json", "table": "y.json"}, "--output=FILE"),
        ({"output": "x.json", "parts": "machine,atention"}, "'attention'"),
        ({"table": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_wrong_flags_end_before_anything_is_measured(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        card.run(**flags)
    assert not list(tmp_path.iterdir())


def test_a_part_that_fails_or_takes_too_long_costs_itself_alone(tmp_path, monkeypatch):
    def measured(command, timeout, **_):
        if "--part=machine" in command:
            raise subprocess.TimeoutExpired(command, timeout)
        code = 1 if "--part=attention" in command else 0
        path = next(c for c in command if c.startswith("--output=")).removeprefix("--output=")
        cases = [{"case": "1 x 2", "seconds": 0.5, "tokens_per_second": 2.0}] * (1 - code)
        Path(path).write_text(json.dumps({"device": {"device": "x", "jax": "1"}, "cases": cases}))
        return subprocess.CompletedProcess(command, code, stderr=b"it broke")

    monkeypatch.setattr(card.subprocess, "run", measured)
    output = tmp_path / "card.json"
    assert card.run(output=str(output), parts="attention,machine,generation") == 0
    found = json.loads(output.read_text())
    assert list(found) == ["attention", "machine", "generation"]
    assert found["attention"]["error"] == "it broke"
    assert found["machine"]["error"].startswith("stopped after")
    assert found["generation"]["cases"] and "error" not in found["generation"]
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


@pytest.mark.long
def test_every_part_runs_in_small(tmp_path):
    for split, sentences in (("train", 600), ("validation", 60)):
        text = helpers.document(helpers.generator("card", split), sentences)
        with gzip.open(tmp_path / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.write(json.dumps({"text": text}) + "\n")
    output = tmp_path / "card.json"
    command = [sys.executable, "-m", "benchmarks.card", f"--output={output}", "--tiny"]
    command += [f"--texts={tmp_path}", "--seconds=1200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert list(found) == list(card_parts.PARTS)
    for name, part in found.items():
        assert "error" not in part, f"{name}: {part['error']}"
        for case in part["cases"]:
            assert "error" not in case or case["kernel"].startswith("cudnn"), case
    runs = found["resumed"]["cases"]
    assert all(case["same"] == case["arrays"] > 0 for case in runs)
    assert len(found["shakespeare"]["cases"][0]["losses"]) == 2
    assert "| gpt2_small" in done.stdout
