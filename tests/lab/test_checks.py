"""Errors that would stop a run are found before the first run starts."""

import json
from pathlib import Path

import pytest

from research.errors import UserError
from research.lab import checks, experiment
from research.lab.experiment import Experiment, Run
from tests import helpers

FROM = {"model": {"preset": "checkpoint"}, "tokenizer": {"kind": "checkpoint"}}


@pytest.fixture
def files(tmp_path):
    """The config files of two pre-trainings, and of a task that starts from one."""
    found = {}
    for kind, changes in (("bert", {}), ("gpt", {}), ("sentiment", FROM)):
        values = helpers.run_values(kind, tmp_path, steps=2) | changes
        path = tmp_path / f"{kind}.py"
        path.write_text(f"def get_config(arg=''):\n    return {values!r}\n")
        found[kind] = str(path)
    return found


def check(folder, runs, devices=1, **given):
    made = Experiment("made", runs, **given)
    planned = experiment.jobs(made, folder / "runs")
    checks.check(made, planned, planned, devices)
    return planned


def test_what_fits_is_accepted_and_nothing_is_made(files, tmp_path):
    runs = {
        "bert": Run(files["bert"], {"optimizer.freeze": ("embedding",)}, seeds=(0, 1)),
        "gpt": Run(files["gpt"]),
        "task": Run(files["sentiment"], {"model.lora_rank": 2}, start="bert"),
        "again": Run(files["sentiment"], start="task"),
        "new": Run(files["sentiment"], start="bert", fresh=True),
    }
    planned = check(tmp_path, runs, devices=8, pretraining=("bert",), encoder="bert", decoder="gpt")
    assert [known.config.model.lora_rank for _, known in checks.manifests_of(planned, planned)] == [
        *(0, 0),
        *(2, 2, 0),
    ]
    assert not (tmp_path / "runs").exists() and not (tmp_path / "cache").exists()


NOWHERE = "files:/nowhere/to.jsonl"
BOTH = {"masked_lm": {}, "causal_lm": {"chunk": 8}, "rows": {"full": 2, "causal": 1}}


@pytest.mark.parametrize(
    ("run", "overrides", "message"),
    [
        ("base", {"train.best": "masked_acuracy", "train.eval_every": 1}, "mean 'masked_accuracy'"),
        ("base", {"train.best": "masked_accuracy"}, "needs evaluations to choose from"),
        ("base", {"data.corpus": [NOWHERE]}, "/nowhere/to.jsonl"),
        ("base", {"data.length": 96, "train.batch_size": 960}, "beyond the model's 48 positions"),
        ("base", {"objective": BOTH, "tokenizer.add_tokens": ("<|endoftext|>",)}, "do not divide"),
        ("base", {"objective": BOTH | {"rows": {"full": 1, "causal": 1}}}, "stands between docum"),
        ("base", {"model.pooler": False}, "config.model.pooler=true"),
        ("base", {"optimizer.freeze": ("embeding",)}, "'embeding' matches no parameter"),
        ("base", {"model.lora_rank": 2, "model.lora": ("querry",)}, "querry"),
        ("base", {"mesh.fsdp": 7}, "mesh .*fsdp=7"),
        ("base", {"optimizer.schedule": "linear", "optimizer.warmup": 2.0}, "warmup"),
        ("task", {"task.labels": ("good", "bad")}, "label 'plain' is not one of config.task.label"),
        ("task", {"data.train": NOWHERE}, "/nowhere/to.jsonl"),
        ("task", {"data.test": NOWHERE}, "/nowhere/to.jsonl"),
        ("task", {"model.width": 32}, "has another model shape"),
        ("task", {"data.length": 64}, "beyond the model's 48 positions"),
        ("task", {"train.best": "f2", "train.eval_every": 1}, "'f2' is not a metric here"),
    ],
)
def test_what_does_not_fit_is_named_with_its_run(files, tmp_path, run, overrides, message):
    runs = {"base": Run(files["bert"]), "task": Run(files["sentiment"], start="base")}
    runs[run] = Run(runs[run].config, overrides, runs[run].start)
    with pytest.raises(UserError, match=f"(?s)run '{run}': .*{message}"):
        check(tmp_path, runs)


def test_a_task_of_an_encoder_on_a_decoder(files, tmp_path):
    runs = {"base": Run(files["gpt"]), "task": Run(files["sentiment"], start="base")}
    with pytest.raises(UserError, match=r"run 'task': .*(pooler|\[CLS\])"):
        check(tmp_path, runs)


def test_a_folder_without_a_checkpoint(files, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="run 'task': .*no checkpoint.*empty|empty.*no checkpoint"):
        check(tmp_path, {"task": Run(files["sentiment"], start=str(tmp_path / "empty"))})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pretraining": ("task",)}, "pretraining names 'task', which is a fine-tuning"),
        ({"encoder": "task", "decoder": "gpt"}, "encoder='task' is not trained with masked_lm and"),
        ({"encoder": "bert", "decoder": "bert"}, "decoder='bert' is not trained with causal_lm"),
    ],
)
def test_what_a_report_cannot_show(files, tmp_path, given, message):
    runs = {
        "bert": Run(files["bert"]),
        "gpt": Run(files["gpt"]),
        "task": Run(files["sentiment"], start="bert"),
    }
    with pytest.raises(UserError, match=message):
        check(tmp_path, runs, **given)


def test_a_finished_run_that_is_not_whole(files, tmp_path):
    runs = {"base": Run(files["bert"])}
    made = experiment.jobs(Experiment("made", runs), tmp_path / "runs")
    checks.check_finished(made)  # none is
    folder = Path(made[0].workdir)
    folder.mkdir(parents=True)
    (folder / "done.json").write_text(json.dumps({"fingerprint": ""}))
    with pytest.raises(UserError, match=r"base-seed0 is finished, but .* remove .*done\.json"):
        checks.check_finished(made)
