"""One tiny run of each kind, made once for all tests of the command line."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from research import cli
from research.checkpoints import checkpoint
from research.config import from_values, to_values
from research.objectives import make_objectives
from research.run.manifest import resolve
from research.tasks import make_task
from tests import helpers

QUESTIONS = [
    {
        "id": f"q{i}",
        "title": "Ale",
        "context": f"Nam {word} mol. Ite sen {word} lar tin.",
        "question": "Sen mol?",
        "answers": {"text": [word], "answer_start": [4]},
    }
    for i, word in enumerate(("ale", "mino", "katora"))
]
TAGGED = [
    {"id": f"t{i}", "tokens": ["Nam", word, "ite", "sen"], "tags": ["O", "B-LOC", "I-LOC", "O"]}
    for i, word in enumerate(("ale", "mino", "katora"))
]
STORIES = [
    {"id": f"s{i}", "title": "Mol", "text": f"Nam ite {word} lar tin sen ale ite mol nam."}
    for i, word in enumerate(("ale", "mino", "katora"))
]
TASKS: dict[str, tuple[str, list[dict], dict[str, Any]]] = {
    "entities": (
        "bert",
        TAGGED,
        {"name": "token_classification", "labels": ["O", "B-LOC", "I-LOC"]},
    ),
    "answers": ("bert", QUESTIONS, {"name": "span_qa", "stride": 8, "max_question": 8}),
    "story": (
        "gpt",
        STORIES,
        {
            "name": "text_generation",
            "kind": "story",
            "prompt": "{title}\n\n{opening}",
            "completion": "{rest}",
            "opening_words": 3,
            "overlap": 8,
            "max_new_tokens": 8,
        },
    ),
    "document": (
        "gpt",
        QUESTIONS,
        {
            "name": "text_generation",
            "kind": "question",
            "prompt": "{context}\nQuestion: {question}\nAnswer:",
            "completion": " {answer}",
            "overlap": 8,
            "max_new_tokens": 8,
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A run: its config file, the values in it, and the folder of its checkpoint."""

    config: str
    values: dict[str, Any]
    checkpoint: str


def write_lines(path: Path, rows: list[Any]) -> str:
    """A JSON Lines file; what is text already stands in it as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def write_config(path: Path, values: dict[str, Any]) -> str:
    """A config file that gives these values, with an argument "size"."""
    path.write_text(
        "import json\n\n"
        "from ml_collections import ConfigDict\n\n"
        "from research.config import arguments\n\n\n"
        "def get_config(arg=''):\n"
        "    arguments(arg, size='tiny')\n"
        f"    return ConfigDict(json.loads({json.dumps(values)!r}))\n"
    )
    return str(path)


def make(folder: Path, kind: str) -> Tiny:
    """The run of a kind: a BERT that is trained two steps, and others with weights as drawn."""
    family = TASKS[kind][0] if kind in TASKS else kind
    values = helpers.run_values(family, folder, steps=2)
    if kind in TASKS:
        _, rows, task = TASKS[kind]
        source = "files:" + write_lines(folder / "examples.jsonl", rows)
        values["data"] |= {"train": source, "validation": source}
        values["train"]["batch_size"] = 2
        values.pop("objective")
        values["task"] = task
    config = write_config(folder / "config.py", values)
    workdir = str(folder / "run")
    if kind == "bert":
        assert cli.main(["train", f"--config={config}", f"--workdir={workdir}"]) == 0
    else:
        manifest = resolve(from_values(values))
        built, tokenizer = manifest.config, manifest.tokenizer
        data = built.data
        if kind == "gpt":
            objectives = make_objectives(built.objective)
        else:
            task = make_task(built.task, built.model, tokenizer, data.length, data.segments)
            objectives = (task.objective,)
        params = helpers.new_params(built.model, objectives)
        checkpoint.write_checkpoint(
            f"{workdir}/checkpoints", 2, params, to_values(built), tokenizer.to_json(), {}
        )
    return Tiny(config, values, workdir)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Callable[[str], Tiny]:
    """kind -> its run, made when it is first asked for."""
    made: dict[str, Tiny] = {}

    def get(kind: str) -> Tiny:
        if kind not in made:
            made[kind] = make(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return get
