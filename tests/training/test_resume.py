"""Invariant: a run that was killed and resumed equals an uninterrupted one, bit for bit."""

import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from research import config as configs
from research.checkpoints.folder import absolute, read_about, steps_in
from research.errors import UserError
from research.training import loop
from tests import helpers
from tests.integration.conftest import TASKS
from tests.training import killed_run

ROOT = Path(__file__).parents[2]
KINDS = ["bert", "sentiment"]
MORE = [pytest.param(kind, marks=pytest.mark.long) for kind in ("gpt", "mixture", *TASKS)]


def child(
    compiled: Path, moment: str, *runs: str | Path, steps: int = killed_run.STEPS
) -> subprocess.Popen:
    """A process with these runs, on two devices; `compiled` keeps its programs for the next."""
    env = helpers.child_environment(devices=2) | {"KILLED_RUN_STEPS": str(steps)}
    env.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    if steps > killed_run.STEPS:  # started many times: each program is compiled once
        env["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
        env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-m", "tests.training.killed_run", moment, *map(str, runs)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)


def kill_and_resume(kinds: list[str], folder: Path) -> dict[str, tuple[str, Path]]:
    """Kind -> (kind, its folder) with the workdirs "whole" and "killed", the latter killed at
    step 6 and resumed to the end. "before.jsonl" is what its metrics were at the kill."""
    places = {kind: folder / kind for kind in kinds}
    killed = {}
    for kind, place in places.items():
        place.mkdir()
        killed_run.config(kind, place)  # writes the data, once for all processes
        killed[kind] = child(folder / "compiled", "step 6", kind, place / "killed")
    for kind, process in killed.items():
        _, errors = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, errors
        shutil.copy(places[kind] / "killed" / "metrics.jsonl", places[kind] / "before.jsonl")
    both = [(k, place / name) for k, place in places.items() for name in ("whole", "killed")]
    process = child(folder / "compiled", "never", *itertools.chain(*both))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return {kind: (kind, place) for kind, place in places.items()}


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return kill_and_resume(KINDS, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module", params=KINDS + MORE)
def runs(request, tmp_path_factory):
    """(kind, folder) of one kind."""
    if request.param in KINDS:
        return request.getfixturevalue("usual")[request.param]
    return kill_and_resume([request.param], tmp_path_factory.mktemp("run"))[request.param]


def test_every_bit_of_params_and_optimizer_is_the_same(runs):
    _, folder = runs
    whole, killed = (
        read_about(absolute(str(folder / name / "checkpoints" / str(killed_run.STEPS))))
        for name in ("whole", "killed")
    )
    assert whole.arrays["params"] and whole.arrays["opt_state"]
    assert killed.arrays == whole.arrays, "checksums of params or optimizer state"
    assert killed.meta == whole.meta and killed.config == whole.config
    assert killed.tokenizer_json == whole.tokenizer_json


def test_metrics_are_the_same_byte_for_byte(runs):
    _, folder = runs
    whole = (folder / "whole" / "metrics.jsonl").read_text()
    assert (folder / "killed" / "metrics.jsonl").read_text() == whole
    steps = [json.loads(line)["step"] for line in whole.splitlines()]
    assert steps == sorted(steps) and steps[-1] == killed_run.STEPS
    before = (folder / "before.jsonl").read_text()
    last = json.loads(before.splitlines()[-1])["step"]
    assert last > killed_run.CHECKPOINT, "nothing had to be cut"


def test_the_batches_after_the_kill_are_those_of_the_whole_run(runs):
    kind, folder = runs
    whole, killed = (
        (folder / name / "batches.txt").read_text().splitlines() for name in ("whole", "killed")
    )
    assert len(whole) == len(set(whole)) == killed_run.STEPS
    # Steps 1 to 5, the kill, then on from the step after the checkpoint.
    assert killed == whole[:5] + whole[killed_run.CHECKPOINT :]
    meta = json.loads((folder / "killed/checkpoints/3/about/meta.json").read_text())
    # A pass of the mixture is one batch; what it is made of has epochs of its own.
    place = (3, 0) if kind == "mixture" else (1, 1)
    assert (meta["epoch"], meta["batch"]) == place, "the checkpoint is to be inside epoch two"


KILLS, LONGER = 20, 100  # kills of a run, and its steps


def moment(draw: random.Random) -> tuple[str, float | None]:
    """(a moment of `killed_run`, None), or ("never", seconds after which it is killed)."""
    return draw.choice(
        [
            ("never", draw.uniform(0, 12)),
            (f"batch {draw.randint(1, 12)}", None),
            (f"evaluation {draw.randint(1, 6)}", None),
            (f"save {draw.randint(0, 1000)}", None),
        ]
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bert", "gpt", "mixture", "sentiment", *TASKS])
def test_twenty_random_kills_change_no_bit(kind, tmp_path):
    draw = random.Random(kind)
    killed_run.config(kind, tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = child(tmp_path / "compiled", "never", kind, whole, steps=LONGER)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    log = []
    for _ in range(KILLS):
        when, seconds = moment(draw)
        process = child(tmp_path / "compiled", when, kind, killed, steps=LONGER)
        try:
            _, errors = process.communicate(timeout=seconds or 300)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
        log.append((when, max(steps_in(absolute(str(killed / "checkpoints"))), default=0)))
        assert process.returncode == -signal.SIGKILL, (log, errors)
    process = child(tmp_path / "compiled", "never", kind, killed, steps=LONGER)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, (log, errors)
    # How many depends on how fast it compiles: some kills are by the clock.
    assert len({step for _, step in log}) > 2, f"the run went on between kills: {log}"
    ours, theirs = (
        read_about(absolute(str(folder / "checkpoints" / str(LONGER))))
        for folder in (killed, whole)
    )
    assert ours.arrays == theirs.arrays, log
    assert ours.meta == theirs.meta
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes(), log
    batches = set((whole / "batches.txt").read_text().splitlines())
    assert set((killed / "batches.txt").read_text().splitlines()) == batches


CHANGES = [
    ({"train.batch_size": 32 * helpers.LENGTH}, "train.batch_size"),
    ({"train.steps": 9}, "train.steps"),
    ({"train.accumulation": 1}, "train.accumulation"),
    ({"optimizer.schedule": "cosine"}, "optimizer.schedule"),
    ({"optimizer.learning_rate": 1e-3}, "optimizer.learning_rate"),
    ({"seed": 8}, "seed"),
    ({"data.segments": 3}, "data.segments"),
    ({"model.dropout": 0.3}, "model.dropout"),
]


@pytest.mark.parametrize("runs", ["bert"], indirect=True)
@pytest.mark.parametrize(("changes", "key"), CHANGES, ids=[key for _, key in CHANGES])
def test_resuming_another_run_is_an_error_that_names_the_key(runs, changes, key):
    kind, folder = runs
    values = configs.to_values(killed_run.config(kind, folder))
    values["mesh"] = {}  # may change
    changed = configs.override(values, changes, "test")
    with pytest.raises(UserError) as error:
        loop.train(changed, str(folder / "whole"), quiet=True)
    assert f"config.{key}:" in str(error.value) and "another config" in str(error.value)
    assert len(str(error.value).splitlines()) <= 12


@pytest.mark.parametrize("runs", ["bert"], indirect=True)
def test_resuming_on_other_data_is_an_error(runs, tmp_path):
    kind, folder = runs
    values = configs.to_values(killed_run.config(kind, folder)) | {"mesh": {}}
    corpus = Path(values["data"]["corpus"][0]["name"].removeprefix("files:"))
    before = corpus.read_text()
    try:
        corpus.write_text(before.replace("a", "u"))
        with pytest.raises(UserError, match="the data .or the tokenizer. has changed"):
            loop.train(configs.override(values, {}, "test"), str(folder / "whole"), quiet=True)
    finally:
        corpus.write_text(before)
