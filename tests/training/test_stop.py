"""Ctrl-C and SIGTERM during a run."""

import json
import signal
from pathlib import Path

import pytest

from research import errors
from research.checkpoints.folder import absolute, steps_in
from research.checkpoints.reading import read_info
from research.config import from_values
from research.evaluation import evaluator
from research.training import loop, stop
from tests import helpers


def test_a_second_ctrl_c_says_what_is_lost(capfd):
    def run():
        with stop.Stop(20) as asked:
            asked.done = 37
            assert not asked.reached()
            signal.raise_signal(signal.SIGINT)
            assert asked.reached()
            assert "stopping after this step, with a checkpoint" in capfd.readouterr().err
            signal.raise_signal(signal.SIGINT)
        return 0

    assert errors.guarded(run) == 130
    said = "interrupted: 17 steps are lost; the newest checkpoint is that of step 20\n"
    assert capfd.readouterr().err == said


def test_a_second_sigterm_is_the_same_notice_for_some_seconds_and_then_the_end(monkeypatch):
    with pytest.raises(KeyboardInterrupt, match="1 steps are lost"), stop.Stop(0) as asked:
        asked.done = 1
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert asked.reached()
        monkeypatch.setattr(stop, "SAME", 0)
        signal.raise_signal(signal.SIGTERM)


def read_all(workdir: Path) -> tuple:
    """The lines of metrics of a run, and what its checkpoints say, with checksums of the arrays."""
    steps = steps_in(absolute(str(workdir / "checkpoints")))
    infos = (read_info(str(workdir / "checkpoints" / str(step))) for step in steps)
    about = [(info.meta, info.fingerprint) for info in infos]
    return (workdir / "metrics.jsonl").read_text(), steps, about


@pytest.mark.parametrize(
    "stopped", [pytest.param(2, marks=pytest.mark.long), 3], ids=["in the middle", "the last one"]
)
def test_an_evaluation_stops_between_two_batches_and_is_made_again(tmp_path, monkeypatch, stopped):
    values = helpers.run_values("bert", tmp_path, steps=6, eval_every=2, best="masked_loss")
    values["data"]["held_out_percent"] = 70.0
    config = from_values(values)
    loop.train(config, str(tmp_path / "whole"), quiet=True)
    losses, evaluations, batches = evaluator.losses, [], []

    def asked_in_one(*given):
        evaluations.append(1)

        def between():
            batches.append(len(evaluations))
            if len(evaluations) == stopped:
                signal.raise_signal(signal.SIGTERM)
            given[-1]()

        return losses(*given[:-1], between)

    run = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "losses", asked_in_one)
        with pytest.raises(loop.Interrupted, match=f"step {2 * stopped}"):
            loop.train(config, run, quiet=True)
    assert batches.count(1) > 1 == batches.count(stopped), (
        "it goes on to the next batch, no further"
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert lines[-1]["step"] == 2 * stopped and "loss" in lines[-1]
    loop.train(config, run, quiet=True)
    ran, undisturbed = (read_all(tmp_path / name) for name in ("run", "whole"))
    assert ran == undisturbed
