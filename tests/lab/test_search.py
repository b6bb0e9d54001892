"""Searches: drawing values, pruning trials, and resuming after a stop."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from research import cli, lock
from research.errors import UserError
from research.lab import search
from research.lab.workers import children, searcher
from research.training import loop
from tests import helpers

# Stands in for a trial: three evaluations, whose value is the better the nearer the rate is to 0.1.
CHILD = """
import json, pathlib, signal, sys, time
file, folder, cores = sys.argv[1:]
folder = pathlib.Path(folder)
values = json.loads((folder / "parameters.json").read_text())
rate = values["optimizer.learning_rate"]
signal.signal(signal.SIGINT, lambda *_: (print("stopped"), sys.exit(130)))
lines = folder / "metrics.jsonl"
if rate > 0.5:
    if rate < 0.95:
        lines.write_text(json.dumps({"step": 1, "validation/accuracy": "nan"}) + "\\n")
    print("error: diverged")
    sys.exit(2)
done = len(lines.read_text().splitlines()) if lines.exists() else 0
for step in range(done + 1, 4):
    with open(lines, "a") as out:
        out.write(json.dumps({"step": step, "validation/accuracy": 1 - abs(rate - 0.1)}) + "\\n")
    waits = pathlib.Path(file).with_name("wait")
    time.sleep(0.7 if waits.exists() and step == 1 else 0.3 if rate > 0.3 else 0.0)
print("trained")
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function: keyword arguments of a Search -> its file."""
    values = helpers.run_values("sentiment", tmp_path, steps=2, eval_every=1)
    (tmp_path / "config.py").write_text(f"def get_config(arg=''):\n    return {values!r}\n")
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setattr(searcher, "PROGRAM", (sys.executable, str(tmp_path / "child.py")))

    def write(space, **given):
        run = given.pop("run", f"Run({str(tmp_path / 'config.py')!r})")
        given = {"metric": "accuracy", "trials": 6, "startup": 0} | given
        path = tmp_path / "search.py"
        path.write_text(
            "from research.lab.experiment import Run\n"
            "from research.lab.search import Choice, Float, Int, Search\n\n\n"
            "def get_search(arg=''):\n"
            f"    return Search('made', {run}, {space}, **{given!r})\n"
        )
        return str(path)

    return write


def make(path, tmp_path, **given):
    said = []
    loaded = search.load(path)
    found = searcher.run(loaded, path, tmp_path / "runs", parallel=1, say=said.append, **given)
    return found, said


def states(outcome):
    return [t.state.name for t in search.over(outcome.study)]


RATE = "{'optimizer.learning_rate': Float(0.01, 0.4), 'train.batch_size': Choice((16, 32))}"


def test_trials_have_values_of_the_space_and_the_best_is_known(file, tmp_path):
    path = file(RATE)
    found, _ = make(path, tmp_path)
    made = search.over(found.study)
    assert states(found) == ["COMPLETE"] * 6 and not found.failed
    for number, trial in enumerate(made):
        wrote = json.loads((tmp_path / "runs" / f"trial-{number:03d}/parameters.json").read_text())
        assert wrote == trial.params
        assert 0.01 <= wrote["optimizer.learning_rate"] <= 0.4 and wrote["train.batch_size"] in (
            16,
            32,
        )
        assert trial.value == pytest.approx(1 - abs(wrote["optimizer.learning_rate"] - 0.1))
    assert len({t.params["optimizer.learning_rate"] for t in made}) == 6
    more, said = make(path, tmp_path)
    assert len(search.over(more.study)) == 6 and "6 trials are done already" in said[0]
    more, _ = make(path, tmp_path, trials=7)
    assert len(search.over(more.study)) == 7


def test_one_that_is_behind_is_stopped(file, tmp_path):
    space = "{'optimizer.learning_rate': Choice((0.1, 0.4))}"
    found, said = make(file(space, startup=1, trials=12), tmp_path)
    rates = {t.params["optimizer.learning_rate"]: t.state.name for t in search.over(found.study)}
    assert rates[0.1] == "COMPLETE"
    pruned = [t for t in search.over(found.study) if t.state.name == "PRUNED"]
    assert pruned and all(t.params["optimizer.learning_rate"] == 0.4 for t in pruned)
    assert any("behind others" in line for line in said) and not found.failed


def test_a_failed_trial_is_shown_and_the_others_go_on(file, tmp_path):
    space = "{'optimizer.learning_rate': Choice((0.1, 0.9))}"
    found, said = make(file(space, trials=8), tmp_path)
    assert set(states(found)) == {"COMPLETE", "FAIL"} and len(states(found)) == 8
    assert len(found.failed) == states(found).count("FAIL")
    assert any("error: diverged" in line for line in said)


def test_what_fails_again_and_again_ends_the_search(file, tmp_path):
    space = "{'optimizer.learning_rate': Float(0.6, 0.9)}"
    found, said = make(file(space, trials=50), tmp_path)
    assert states(found) == ["FAIL"] * searcher.HOPELESS
    assert said[-1] == "no trial has succeeded: the search ends here"
    space = "{'optimizer.learning_rate': Float(0.96, 0.99)}"
    found, _ = make(file(space, trials=50), tmp_path / "more")
    assert states(found) == ["FAIL"], "not one evaluation: it is the input that is wrong"


def test_what_was_stopped_goes_on_in_its_folder(file, tmp_path):
    path = file(RATE, trials=3)
    (tmp_path / "wait").touch()
    first = tmp_path / "runs" / "trial-000" / "metrics.jsonl"

    def stop():
        while not (first.exists() and first.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    found, _ = make(path, tmp_path)
    assert found.interrupted and states(found) == []
    before = json.loads((first.parent / "parameters.json").read_text())
    (tmp_path / "wait").unlink()
    found, _ = make(path, tmp_path)
    assert states(found) == ["COMPLETE"] * 3
    again = next(t for t in search.over(found.study) if t.user_attrs["folder"] == "trial-000")
    assert again.params == before and len(first.read_text().splitlines()) == 3
    assert len(list((tmp_path / "runs").glob("trial-*"))) == 3


@pytest.mark.parametrize(
    ("space", "given", "message"),
    [
        ("{}", {}, "its space is empty"),
        ("{'optimizer.learning_rat': Float(0.1, 0.2)}", {}, "did you mean 'learning_rate'"),
        ("{'optimizer.learning_rate': Float(0.0, 0.2, log=True)}", {}, "low must be above 0"),
        ("{'optimizer.learning_rate': Float(0.3, 0.2)}", {}, "has no value"),
        ("{'train.batch_size': Choice(())}", {}, "has no value"),
        ("{'train.batch_size': Int(0, 8)}", {}, "config.train.batch_size=0"),
        ("{'train.batch_size': Choice((16, 0, 32))}", {}, "config.train.batch_size=0"),
        (
            "{'train.batch_size': Int(8, 16), 'optimizer.name': Choice(('lamb', 'adamv', 'muon'))}",
            {},
            "did you mean 'adamw'",
        ),
        (RATE, {"trials": 0}, "trials=0 must be a whole number of at least 1"),
        (RATE, {"metric": "macro_f"}, "no evaluation has metric='macro_f'; did you mean"),
    ],
)
def test_a_search_that_cannot_be_made(file, space, given, message):
    with pytest.raises(UserError, match=message):
        search.load(file(space, **given))


def test_another_search_is_not_mixed_in(file, tmp_path):
    make(file(RATE, trials=1), tmp_path)
    with pytest.raises(UserError, match="belongs to another search \\(its space"):
        make(file(RATE.replace("0.4", "0.3"), trials=1), tmp_path)


def test_runs_without_evaluations_cannot_be_compared(file, tmp_path):
    run = f"Run({str(tmp_path / 'config.py')!r}, {{'train.eval_every': 0}})"
    with pytest.raises(UserError, match="trials are compared by their evaluations"):
        search.load(file(RATE, run=run))


def test_without_optuna(file, tmp_path, monkeypatch):
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install optuna"):
        make(file(RATE), tmp_path)


@pytest.mark.long
def test_real_trials_and_their_report(file, tmp_path, monkeypatch, capsys):
    """A trial that really trains, from the command line to the page."""
    loop.train(helpers.run_config("bert", tmp_path, steps=1), str(tmp_path / "start"), quiet=True)
    changes = {"model.preset": "checkpoint", "tokenizer.kind": "checkpoint"}
    path = file(
        "{'optimizer.learning_rate': Float(1e-4, 1e-2, log=True), 'train.batch_size': Int(8, 16)}",
        run=f"Run({str(tmp_path / 'config.py')!r}, {changes!r}, {str(tmp_path / 'start')!r})",
        trials=1,
        metric="macro_recall",
    )
    monkeypatch.setattr(searcher, "PROGRAM", (*children.PROGRAM, "trial"))
    folder = tmp_path / "runs"
    assert cli.main(["search", f"--config={path}", f"--workdir={folder}", "--parallel=1"]) == 0
    out = capsys.readouterr().out
    assert "| trial-000 |" in out
    report = (folder / "report.md").read_text()
    assert "| trial     | optimizer.learning_rate" in report and "Commit" in report
    assert "validation/macro_recall" in (folder / "report.html").read_text()
    place = folder / "trial-000"
    resolved = json.loads((place / "config.json").read_text())
    chosen = json.loads((place / "parameters.json").read_text())
    assert resolved["train"]["batch_size"] == chosen["train.batch_size"]
    assert resolved["train"]["best"] == "macro_recall"


def test_values_are_not_drawn_again_after_a_stop(file, tmp_path):
    path = file(RATE, trials=2)
    make(path, tmp_path)
    found, _ = make(path, tmp_path, trials=4)
    assert len({t.params["optimizer.learning_rate"] for t in search.over(found.study)}) == 4


def test_two_searches_at_once_in_one_folder(file, tmp_path):
    path = file(RATE, trials=1)
    with lock.alone(tmp_path / "runs", lock.COMMAND):
        with pytest.raises(UserError, match="is at work in it"):
            make(path, tmp_path)


def test_other_data_is_another_search(file, tmp_path):
    path = file(RATE, trials=1)
    make(path, tmp_path)
    helpers.write_reviews(tmp_path / "train.jsonl", 61)
    with pytest.raises(UserError, match="its config, data or checkpoint"):
        make(path, tmp_path)
