"""The provenance of runs in a report."""

import json

import pytest

from research.lab.record import Record
from research.lab.reports import provenance
from research.monitoring import starts


def start(**machine):
    return {
        "command": ["python", "launch.py", "train", "--config.data.corpus=['files:a b']"],
        "commit": None,
        "diff": None,
        "versions": {"jax": "1"},
        "devices": {"platform": "cpu", "kind": "cpu", "count": 1},
        "machine": {"system": "Linux", "cores": 4} | machine,
        "data": "0123456789abcdef",
    }


def test_machine_and_command_are_named(tmp_path):
    for found in (start(), start(cpu="Some CPU @ 2 GHz")):  # it was not always noted
        with open(tmp_path / "starts.jsonl", "a") as file:
            file.write(json.dumps(found) + "\n")
    *_, machine, command = provenance.about([Record(tmp_path, "run")])
    first, second = machine.removeprefix("Machine: ").split("; ")
    assert first == "1 cpu (cpu), 4 cores, Linux"
    assert second == "1 cpu (cpu), 4 cores of Some CPU @ 2 GHz, Linux."
    # As a shell reads it.
    assert command.startswith("Command: python launch.py train '--config.data.corpus=[")


@pytest.mark.parametrize(
    ("train", "data", "said"),
    [
        ({"best": "f1"}, {"test": None}, True),
        ({"best": "f1"}, {"test": {"name": "files:dev.jsonl"}}, True),
        ({"best": "f1"}, {"test": {"name": "files:test.jsonl"}}, False),
        ({"best": ""}, {"test": None}, False),  # nothing was chosen
    ],
)
def test_that_a_model_was_chosen_on_what_it_is_measured_on_is_said(tmp_path, train, data, said):
    validation = {"name": "files:dev.jsonl"}
    values = {"task": {"name": "span_qa"}, "train": train}
    values["data"] = {"train": {"name": "files:a.jsonl"}, "validation": validation} | data
    folders = [tmp_path / "squad-seed0", tmp_path / "squad-seed1"]
    for folder in folders:
        folder.mkdir()
        (folder / starts.CONFIG).write_text(json.dumps(values))
        (folder / "starts.jsonl").write_text(json.dumps(start()) + "\n")
    first = provenance.about([Record(folder, "squad") for folder in folders])[0]
    expected = (
        "Chosen on the examples that measure them: squad. They have no test split, and f1 on the "
        "validation split chose the checkpoint, so these values are better than values on new "
        "examples would be."
    )
    assert (first == expected) == said and first.startswith("Chosen") == said
