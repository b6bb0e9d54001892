"""What a report says of how runs were made."""

import json

from research.experiments import provenance


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
    *_, machine, command = provenance.about([tmp_path])
    first, second = machine.removeprefix("Machine: ").split("; ")
    assert first == "1 cpu (cpu), 4 cores, Linux"
    assert second == "1 cpu (cpu), 4 cores of Some CPU @ 2 GHz, Linux."
    # As a shell reads it.
    assert command.startswith("Command: python launch.py train '--config.data.corpus=[")
