"""Bad steps: detected within the step; the run stops, leaves them out or goes back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import cli
from research import config as configs
from research.checkpoints.folder import absolute, read_about, steps_in
from research.errors import Diverged
from research.evaluation import evaluator
from research.run import run as runs
from research.run import step as steps
from research.run import watch
from research.run.guard import BAD, BROKEN, FEWEST, GOOD, WINDOW, Guard, verdict
from research.training import loop
from tests import helpers
from tests.integration.conftest import write_config

STEPS, WRONG = 6, 5  # the fifth step's gradient is not finite


def test_a_step_is_bad_where_loss_or_gradient_is_not_finite_or_the_loss_jumps():
    one, nan, inf = jnp.float32(1), jnp.float32(jnp.nan), jnp.float32(jnp.inf)
    for guard in (Guard(), Guard(spike=3.0)):
        losses = guard.first_losses()
        found = [bool(guard.is_bad(losses, *pair)) for pair in ((one, one), (nan, one), (one, inf))]
        assert found == [False, True, True]
    guard, losses = Guard(spike=3.0), Guard(spike=3.0).first_losses()
    for _ in range(FEWEST):
        assert not guard.is_bad(losses, 100 * one, one), "too few to measure it against"
        losses = guard.after(losses, one, jnp.bool_(False))
    assert guard.is_bad(losses, 3.1 * one, one) and not guard.is_bad(losses, 2.9 * one, one)
    assert helpers.identical(guard.after(losses, 9 * one, jnp.bool_(True)), losses)
    for _ in range(WINDOW):
        losses = guard.after(losses, 2 * one, jnp.bool_(False))
    assert not guard.is_bad(losses, 5.9 * one, one), "the median has moved"


def test_what_a_step_leaves_is_broken_where_its_norm_is_not_finite():
    for value, expected in ((1.0, GOOD), (1e30, BROKEN), (np.nan, BROKEN)):
        tree = {"a": jnp.full(3, value), "b": jnp.ones(2)}
        assert int(verdict(jnp.bool_(False), tree)) == expected
    assert int(verdict(jnp.bool_(True), {"a": jnp.ones(3)})) == BAD


@pytest.fixture
def poisoned(monkeypatch):
    """Makes the gradients of batches with these numbers (from 0) not finite."""
    real = steps.gradients

    def use(config: configs.Config, *numbers: int) -> None:
        data = runs.build(config, quiet=True).train
        wrong = jnp.asarray(np.stack([data.batch(number)["tokens"] for number in numbers]))

        def gradients(params, model, objectives, batch, *rest):
            found, counts = real(params, model, objectives, batch, *rest)
            bad = (batch["tokens"] == wrong).all((1, 2)).any()
            return jax.tree.map(lambda g: jnp.where(bad, jnp.nan, g), found), counts

        monkeypatch.setattr(steps, "gradients", gradients)

    return use


def config(folder, **train):
    return helpers.run_config("gpt", folder, **{"steps": STEPS, "checkpoint_every": 2} | train)


def saved(folder):
    return steps_in(absolute(str(folder / "checkpoints")))


def trained(folder):
    """The steps whose metrics were written."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "loss" in line]


def test_a_run_stops_and_the_last_good_checkpoint_stays(tmp_path, poisoned):
    wanted = config(tmp_path, keep=1)
    poisoned(wanted, WRONG - 1)
    with pytest.raises(Diverged, match=rf"at step {WRONG} .*on_bad_step=skip.*--rewind=STEP"):
        loop.train(wanted, str(tmp_path / "run"), quiet=True)
    assert max(saved(tmp_path / "run")) == WRONG - 1
    assert trained(tmp_path / "run") == list(range(1, WRONG))


def test_a_bad_step_is_left_out_and_its_batch_is_written(tmp_path, poisoned):
    wanted = config(tmp_path, on_bad_step="skip", checkpoint_every=1, keep=9)
    poisoned(wanted, WRONG - 1)
    loop.train(wanted, str(tmp_path / "run"), quiet=True)
    before, at, after = (
        read_about(absolute(str(tmp_path / "run/checkpoints" / str(step))))
        for step in (WRONG - 1, WRONG, STEPS)
    )
    assert at.arrays == before.arrays != after.arrays
    assert at.meta["watch"]["skipped"] == at.meta["watch"]["in_a_row"] == 1
    assert after.meta["watch"]["skipped"] == 1 and after.meta["watch"]["in_a_row"] == 0
    text = (tmp_path / "run/metrics.jsonl").read_text()
    assert [line.get("skipped") for line in map(json.loads, text.splitlines())][WRONG - 1] == 1
    batch = np.load(tmp_path / "run" / watch.FOLDER / f"{WRONG}.npz")
    assert helpers.identical(dict(batch), runs.build(wanted, quiet=True).train.batch(WRONG - 1))


def test_too_many_in_a_row_end_the_run_with_the_first_layer(tmp_path, poisoned):
    wanted = config(tmp_path, on_bad_step="skip", bad_steps=2)
    poisoned(wanted, 2, 4, 5)  # not in a row: the first
    with pytest.raises(Diverged, match="at step 6 .* 2 bad steps in a row .*the gradient of back"):
        loop.train(wanted, str(tmp_path / "run"), quiet=True)
    assert saved(tmp_path / "run") == [2, 4]


def test_the_run_goes_back_and_leaves_out_the_batches_since(tmp_path, poisoned, monkeypatch):
    wanted = config(tmp_path, on_bad_step="rollback", keep=9)
    poisoned(wanted, WRONG)  # step 6: two steps behind the checkpoint
    begun = []
    real = loop.Ahead

    def noted(data, start, end, sharding):
        begun.append((start, end))
        return real(data, start, end, sharding)

    monkeypatch.setattr(loop, "Ahead", noted)
    loop.train(wanted, str(tmp_path / "run"), quiet=True)
    assert begun == [(0, STEPS), (6, 8)], "batches 4 and 5 are left out"
    assert trained(tmp_path / "run") == list(range(1, STEPS + 1))
    meta = read_about(absolute(str(tmp_path / "run/checkpoints" / str(STEPS)))).meta
    assert meta["watch"]["offset"] == 2 and meta["watch"]["returns"] == 1
    with pytest.raises(Diverged, match="no checkpoint to go back to"):
        loop.train(
            config(tmp_path, on_bad_step="rollback", checkpoint_every=0),
            str(tmp_path / "other"),
            quiet=True,
        )


def test_the_first_layer_that_is_not_finite_is_named(tmp_path):
    run = runs.build(config(tmp_path), quiet=True)
    params = helpers.new_params(run.model, run.objectives)
    batch = run.train.batch(0)
    assert watch.first_layer(run, params, batch) == ""
    kernels = params["backbone"]["layers"]["mlp"]["up"]
    huge = kernels | {"kernel": kernels["kernel"].at[1].mul(1e38).at[1].mul(1e3)}
    params["backbone"]["layers"]["mlp"]["up"] = huge
    assert watch.first_layer(run, params, batch) == (
        "the parameter backbone/layers/mlp/up/kernel, layer 1"
    )
    params["backbone"]["layers"]["mlp"]["up"] = kernels | {
        "kernel": kernels["kernel"].at[1].set(3e38)
    }
    assert watch.first_layer(run, params, batch) == "the output of layer 1"


def test_a_rate_that_is_far_too_high_ends_with_code_3_and_nothing_saved(tmp_path, capsys):
    values = helpers.run_values("gpt", tmp_path, steps=STEPS, checkpoint_every=1)
    values["optimizer"] = {"learning_rate": 1e30, "warmup": 0.0}
    file = write_config(tmp_path / "config.py", values)
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(command) == 3
    said = capsys.readouterr().err
    assert "diverged at step 1" in said and "leaves parameters that are not finite" in said
    assert not saved(tmp_path / "run")


def test_a_loss_that_is_finite_but_far_worse_than_guessing_is_not_saved_as_the_end(tmp_path):
    values = helpers.run_values("gpt", tmp_path, steps=STEPS)
    values["optimizer"] = {"learning_rate": 1000.0, "warmup": 0.0, "clip": 0.0}
    with pytest.raises(Diverged, match="far worse than guessing"):
        loop.train(configs.from_values(values), str(tmp_path / "run"), quiet=True)
    assert not saved(tmp_path / "run")


def test_an_evaluation_without_finite_numbers_is_an_error(tmp_path):
    run = runs.build(config(tmp_path), quiet=True)
    with pytest.raises(Diverged, match="causal_lm/loss is nan"):
        counts = {"causal_lm/loss": float("nan"), "causal_lm/tokens": 4.0}
        evaluator.loss_metrics(counts, run.objectives)


def test_going_back_by_hand_allows_another_optimizer_and_is_recorded(tmp_path, capsys):
    values = helpers.run_values("gpt", tmp_path, steps=4, checkpoint_every=1, keep=9)
    file = write_config(tmp_path / "config.py", values)
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(command) == 0
    lower = "--config.optimizer.learning_rate=1e-4"
    assert cli.main([*command, lower]) == 2
    assert "--rewind=STEP goes back" in capsys.readouterr().err
    assert cli.main([*command, lower, "--rewind=7"]) == 2
    assert "does not hold this step; valid: 1, 2, 3, 4" in capsys.readouterr().err
    assert saved(tmp_path / "run") == [1, 2, 3, 4]
    assert cli.main([*command, lower, "--rewind=2"]) == 0
    assert saved(tmp_path / "run") == [1, 2, 3, 4]
    assert (tmp_path / "run/checkpoints/4.rewound").is_dir()
    start = json.loads((tmp_path / "run/starts.jsonl").read_text().splitlines()[-1])
    assert start["rewind"] == start["step"] == 2 and start["optimizer"]["learning_rate"] == 1e-4
    assert trained(tmp_path / "run") == [1, 2, 3, 4]


def test_checkpoints_by_the_clock_and_what_no_checkpoint_holds(tmp_path, capsys):
    wanted = config(tmp_path, checkpoint_every=0, checkpoint_minutes=1e-6, keep=9)
    loop.train(wanted, str(tmp_path / "run"), quiet=True)
    assert saved(tmp_path / "run") == list(range(1, STEPS + 1))
    for step in range(3, STEPS + 1):
        (tmp_path / "run/checkpoints" / str(step)).rename(tmp_path / str(step))
    by_default = config(tmp_path, checkpoint_every=0)
    loop.train(by_default, str(tmp_path / "run"))
    said = capsys.readouterr().out
    assert "checkpoints: every 10 minutes and at the end" in said
    assert "steps 3 to 6 were trained before, but no checkpoint" in said
    assert saved(tmp_path / "run") == [1, 2, STEPS]


def test_the_end_of_a_run_says_how_its_time_was_spent(tmp_path, capsys):
    loop.train(config(tmp_path, eval_every=2), str(tmp_path / "run"))
    assert "first step (compiling)" in capsys.readouterr().out.splitlines()[-1]
    last = json.loads((tmp_path / "run/goodput.jsonl").read_text())
    whole = last.pop("all")
    parts = sum(last.values()) - last["step"]
    assert 0.98 * whole <= parts <= whole
