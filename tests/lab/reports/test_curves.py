"""The curves of runs on a page."""

import json
import math

import pytest

from research.lab.record import Record
from research.lab.reports import curves, levels


def run(folder, losses, **more):
    """A run that has written a loss every 10 steps, and other metrics at its end."""
    folder.mkdir()
    lines = [{"step": 10 * i, "loss": loss} for i, loss in enumerate(losses, start=1)]
    lines[-1] |= more
    times = [{"step": 10 * i, "seconds": 36.0 * i, "tokens_per_second": 100.0} for i in (1, 2)]
    for name, found in (("metrics.jsonl", lines), ("timing.jsonl", times)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in found))
    return folder


def test_seeds_are_joined_and_stages_are_apart(tmp_path):
    first = Record(run(tmp_path / "0", [3.0, 2.0]), "a")
    # It was stopped early, and begins with a loss that is no number.
    second = Record(run(tmp_path / "1", [5.0], learning_rate="nan"), "a")
    third = Record(run(tmp_path / "2", [0.5], learning_rate=0.1), "b")
    found = curves.of_runs(
        [first, second, third],
        {"a": "pre-training", "b": "a_task"},
        {"a_task": {"loss": {"chance": 0.7}}},
    )
    assert found["metrics"] == ["loss", "learning_rate"]
    one, other = found["stages"]
    assert [one["name"], one["levels"]] == ["pre-training", {}]
    (variant,) = one["variants"]
    assert (variant["name"], variant["runs"]) == ("a", 2)
    assert variant["metrics"] == {
        "loss": {
            "step": [10, 20],
            "positions": [3600, 10800],
            "hours": [0.01, 0.03],
            "value": [4, 2],
            "low": [3, 2],
            "high": [5, 2],
            "of": [2, 1],
        }
    }
    assert other["name"] == "a task" and other["levels"] == {"loss": {"chance": 0.7}}
    assert set(other["variants"][0]["metrics"]["loss"]) == {"step", "positions", "hours", "value"}


def test_without_a_run_nothing_is_drawn():
    assert curves.of_runs([]) == {"metrics": [], "stages": []}


@pytest.mark.parametrize(
    ("task", "metric", "value"),
    [
        (None, "next_sentence_accuracy", 0.5),
        (None, "masked_accuracy", None),
        ({"name": "sequence_classification", "labels": list("abcd")}, "macro_recall", 0.25),
        ({"name": "sequence_classification", "labels": list("abcd")}, "loss", math.log(4)),
        ({"name": "sequence_classification", "labels": "auto"}, "macro_recall", None),
        ({"name": "multi_label", "labels": list("abcd")}, "label_accuracy", 0.5),
        ({"name": "regression"}, "loss", None),
    ],
)
def test_the_level_of_chance(task, metric, value):
    found = levels.chance({"task": task}).get(f"validation/{metric}", {})
    assert found.get("chance") == value
