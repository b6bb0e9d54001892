"""How the flags of a command line are read; no verb is run."""

import time
import weakref

import pytest

from research import cli


@pytest.mark.parametrize(
    ("given", "found"),
    [([], {}), (["--dry_run"], {"dry_run": "true"}), (["--dry_run=True"], {"dry_run": "true"})]
    + [([f"--dry_run={word}"], {"dry_run": ""}) for word in ("false", "FALSE")],
)
def test_a_switch_may_be_given_its_value(given, found):
    flags, _ = cli.parse("experiment", cli.VERBS["experiment"], ["--config=a", *given])
    assert flags == {"config": "a"} | found


@pytest.mark.parametrize("given", ["--dry_run=no", "--dry_run=1", "--dry_run=", "--dry_run=false"])
def test_a_switch_takes_no_other_value_and_not_two(capsys, given):
    more = ["--dry_run"] if given == "--dry_run=false" else []
    assert cli.main(["experiment", "--config=a", given, *more]) == 2
    expected = "--dry_run is given twice" if more else f"{given} must be true or false"
    assert f"error: experiment: {expected}" in capsys.readouterr().err


def test_a_switch_that_is_off_launches_nothing(capsys, monkeypatch):
    joined = []
    monkeypatch.setattr("research.commands.processes.join", lambda *given: joined.append(given))
    line = ["train", "--config=none.py", "--workdir=w", "--process_id=3"]
    assert cli.main([*line, "--dry_run"]) == 2 and not joined
    assert "--process_id is for a process that runs here" in capsys.readouterr().err
    assert cli.main([*line, "--dry_run=false"]) == 2 and joined == [("", "3", "")]


def test_an_interrupt_that_the_garbage_collector_swallows_comes_again():
    """Python ignores what is raised in its callbacks: a run would go on for hours."""

    class Thing:
        pass

    def swallowed(reference):
        raise KeyboardInterrupt

    def run():
        thing = Thing()
        kept = weakref.ref(thing, swallowed)
        del thing
        time.sleep(5)
        return 0 if kept else 1

    assert cli.guarded(run) == 130
