"""Averaged weights in a run: the average is evaluated and saved; training continues without it."""

import json

import numpy as np
import pytest

from research import config as configs
from research.checkpoints.reading import read_info
from research.errors import UserError
from research.evaluation import splits
from research.models import params as parameters
from research.run.loaded import load_model
from research.training import loop
from tests import helpers


def config(folder, **optimizer):
    values = helpers.run_values("gpt", folder, steps=4, checkpoint_every=2, eval_every=2)
    values["optimizer"] |= {"warmup": 0.0, "schedule": "constant"} | optimizer
    return configs.from_values(values)


def weights(folder):
    found = parameters.by_path(load_model(str(folder)).params)
    return {path: np.asarray(x) for path, x in found.items()}


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """The folder of a finished run with averages."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    loop.train(config(folder.parent, average=0.5), str(folder), quiet=True)
    return folder


def test_what_is_saved_and_measured_are_the_averages(averaged, tmp_path):
    loop.train(config(tmp_path), str(tmp_path / "plain"), quiet=True)
    plain, mean = weights(tmp_path / "plain"), weights(averaged)
    assert any(not np.array_equal(plain[path], mean[path]) for path in plain)
    assert not (averaged / "texts.jsonl").exists()  # nobody asked for samples, nor for the best
    with pytest.raises(UserError, match="did not look for its best step"):
        read_info(str(averaged / "best"))
    lines = [json.loads(line) for line in (averaged / "metrics.jsonl").open()]
    measured = {k: v for k, v in lines[-1].items() if k.startswith("validation/")}
    found = splits.evaluate(load_model(str(averaged)), "validation", quiet=True).metrics
    assert measured and measured == {
        f"validation/{k}": pytest.approx(v, rel=1e-5) for k, v in found.items()
    }


def test_training_goes_on_from_its_own_weights(averaged, tmp_path, monkeypatch):
    """It does not resume from the averages, which are the weights of a checkpoint."""
    whole, calls = loop.validation.metrics, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop.validation, "metrics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config(averaged.parent, average=0.5), str(tmp_path / "run"), quiet=True)
    loop.train(config(averaged.parent, average=0.5), str(tmp_path / "run"), quiet=True)
    again, before = weights(tmp_path / "run"), weights(averaged)
    for path, value in before.items():
        np.testing.assert_array_equal(again[path], value, path)
