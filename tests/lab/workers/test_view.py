"""The display of several runs at once."""

import io

import pytest

from research.lab.workers import view

LINE = "bert-seed0  step 60/1,200  loss 3.210  4,000 tokens/s  5 min left"


class Clock:
    """A clock that advances only when a test says so."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(view.time, "monotonic", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_piped_output_gets_the_newest_line_of_a_run_now_and_then(monkeypatch):
    clock, said = Clock(monkeypatch), []
    monkeypatch.setattr(view.sys, "stderr", io.StringIO())
    with view.View(2, said.append) as shown:
        shown.show(0, "a-seed0", ["early"])
        clock.now += view.SECONDS_BETWEEN_LINES
        shown.show(0, "a-seed0", ["older", "newest"])
        shown.show(0, "a-seed0", ["newest"])
        shown.show(1, "a-seed01", ["other"])
        shown.show(1, "a-seed01", ["other, too soon"])
    assert said == ["a-seed0  newest", "a-seed01  other"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bert-seed0  step 1/2  loss 3.2", "bert-seed0  step 1/2  loss 3.2"),
        ("step 90  validation: loss 3", "bert-seed0  step 90  validation: loss 3"),
        ("bert-seed01  compiling", "bert-seed0  bert-seed01  compiling"),
        ("tokenise train  block 1/6", "bert-seed0  tokenise train  block 1/6"),
    ],
)
def test_every_line_of_a_run_begins_with_its_name_once(monkeypatch, line, expected):
    clock, said = Clock(monkeypatch), []
    monkeypatch.setattr(view.sys, "stderr", io.StringIO())
    with view.View(1, said.append) as shown:
        clock.now += view.SECONDS_BETWEEN_LINES
        shown.show(0, "bert-seed0", [line])
    assert said == [expected]


def test_a_terminal_has_a_bar_for_each_run(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(view.sys, "stderr", terminal)
    with view.View(2, lambda text: print(text, file=terminal)) as shown:
        shown.show(0, "bert-seed0", [LINE])
        shown.show(1, "gpt-seed0", ["compiling"])
        shown.say("ready")
        shown.status("3 done, 2 running, 4 waiting")
    written = terminal.getvalue()
    assert "loss 3.210" in written and "gpt-seed0  compiling" in written and "ready\n" in written
    assert "3 done, 2 running, 4 waiting" in written


@pytest.mark.parametrize(("done", "bar"), [("0", " " * 12), ("600", "█" * 6 + " " * 6)])
def test_the_bar_is_as_long_as_what_is_done(done, bar):
    for label in ("x  step", "x  tokenise train  block"):
        line = f"{label} {done}/1,200  loss 1"
        assert view.with_bar(line) == f"{label} {done}/1,200 |{bar}| loss 1"


def test_a_line_that_is_no_progress_is_shown_as_it_is():
    assert view.with_bar("error: 3/4 of it") == "error: 3/4 of it"
