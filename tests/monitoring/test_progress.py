import io

import pytest

from research.monitoring.progress import Progress, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_plain_line_says_it_all():
    stream, clock = io.StringIO(), Clock()
    with Progress(1000, "pretrain", stream, clock=clock) as progress:
        progress.update(100)
        clock.now += 4.0
        progress.update(110)
        clock.now += 40.0
        progress.update(
            120,
            loss=5.1234,
            learning_rate=1e-3,
            gradient_norm=1.21,
            tokens_per_second=17012.3,
            mfu=0.312,
            waiting=0.004,
            masked_accuracy=0.12345,
        )
        first, second = stream.getvalue().splitlines()
    assert first == "pretrain  step 100/1,000"
    assert second == (
        "pretrain  step 120/1,000  loss 5.123  lr 1.0e-03  grad norm 1.2  17,012 tokens/s  "
        "MFU 31 %  waiting for data 0.4 %  masked accuracy 0.1235  32 min left"
    )


def test_plain_lines_are_few_and_the_last_state_is_among_them():
    stream, clock = io.StringIO(), Clock()
    with Progress(500, "train", stream, clock=clock) as progress:
        for step in range(1, 501):
            progress.update(step, loss=1.0)
            clock.now += 0.1
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11  # one each 5 seconds of 50, and the last
    assert lines[-1] == "train  step 500/500  loss 1.000"
    assert stream.getvalue().endswith("\n")
    assert "\r" not in stream.getvalue()


def test_the_last_state_is_not_shown_twice():
    stream = io.StringIO()
    with Progress(1, "train", stream) as progress:
        progress.update(1)
        progress.close()
    assert stream.getvalue() == "train  step 1/1\n"


def test_time_left_is_measured_from_the_first_update_of_this_run():
    stream, clock = io.StringIO(), Clock()
    with Progress(100, "train", stream, start=50, clock=clock) as progress:
        clock.now += 1000.0  # compiling
        progress.update(51)
        clock.now += 9.0
        progress.update(60)
    assert stream.getvalue().splitlines()[-1].endswith("40 s left")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_an_exception_passes_and_leaves_a_whole_line(stream):
    out = stream()
    with pytest.raises(KeyboardInterrupt), Progress(100, "train", out) as progress:
        for step in range(1, 50):
            progress.update(step, loss=float(step))
        raise KeyboardInterrupt
    text = out.getvalue()
    assert text.endswith("\n")
    assert "49/100" in text.splitlines()[-1]
    assert "loss 49.000" in text.splitlines()[-1]


def test_a_terminal_gets_a_bar_with_values_and_time_left():
    stream, clock = Terminal(), Clock()
    with Progress(1000, "a {name}", stream, start=100, clock=clock) as progress:
        for step in (101, 151):
            progress.update(step, loss=2.0, tokens_per_second=1234.0)
            clock.now += 50.0
    last = stream.getvalue().rstrip("\n").split("\r")[-1]
    assert last.startswith("a {name}  step 151/1000 |")
    assert last.endswith("| 14 min left  loss 2.000  1,234 tokens/s")


def test_work_of_unknown_length_shows_what_is_done():
    out = io.StringIO()
    with Progress(None, "tokenise", out, unit="block") as progress:
        progress.update(1)
        progress.update(2, tokens=1234567)
    assert out.getvalue().splitlines() == [
        "tokenise  block 1",
        "tokenise  block 2  tokens 1,234,567",
    ]
    out = Terminal()
    with Progress(None, "tokenise", out, unit="block") as progress:
        progress.update(2, tokens=1234567)
    assert out.getvalue().rstrip("\n").split("\r")[-1] == "tokenise  block 2  tokens 1,234,567"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_notes_stand_on_lines_of_their_own(stream):
    out = stream()
    with Progress(10, "train", out) as progress:
        progress.update(1)
        progress.note("step 1  validation loss 3.2")
        progress.update(2)
    pieces = out.getvalue().replace("\r", "\n").splitlines()
    assert "step 1  validation loss 3.2" in pieces


def test_inactive_is_silent():
    for stream in (io.StringIO(), Terminal()):
        with Progress(10, "train", stream, active=False) as progress:
            progress.update(1, loss=1.0)
            progress.note("note")
        assert stream.getvalue() == ""


def test_standard_error_and_other_units(capsys):
    with Progress(10, "tokenising", unit="document") as progress:
        progress.update(10)
    assert capsys.readouterr().err == "tokenising  document 10/10\n"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (179, "3 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (97200, "1 d 03 h"),
    ],
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected
