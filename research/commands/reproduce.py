"""`launch.py reproduce`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from etils import epath

from research import bucket
from research.config import Config, from_values
from research.errors import UserError
from research.lab.workers import lanes
from research.monitoring import starts
from research.monitoring.starts import CONFIG
from research.monitoring.writers import METRICS, json_object, lines

DIFFERS = 1  # exit code
NEEDED = ("step", "untracked", "init_from")  # of the run's starts, beside what is always noted


def run(run: list[str], workdir: str = "") -> int:
    """Makes a run again, from its config.json, and compares metrics.jsonl line by line."""
    if len(run) != 1:
        raise UserError(f"reproduce: one run at a time, not {len(run)}")
    folder = bucket.path(run[0].rstrip("/"))
    config, before = _config(folder), starts.read(folder, NEEDED, strict=True)
    with _cores_of(before):
        return _again(folder, config, before, bucket.path(workdir or f"{folder}-again"))


@contextmanager
def _cores_of(before: list[dict[str, Any]]) -> Iterator[None]:
    """Leaves this process no more cores than the run had at its last start, of an experiment its
    part: on CPU their number decides the last digits, and jax asks for it once, before the first
    computation."""
    there = lanes.cores()
    count = before[-1]["machine"]["cores"] if before else len(there)
    on_cpu = before and before[-1]["devices"]["platform"] == "cpu"
    if not on_cpu or count >= len(there) or not hasattr(os, "sched_setaffinity"):
        yield
        return
    print(f"on {count} of the {len(there)} cores, as it was made", flush=True)
    os.sched_setaffinity(0, there[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, there)


def _again(
    folder: epath.Path, config: Config, before: list[dict[str, Any]], target: epath.Path
) -> int:
    """Trains in `target` and compares; returns the exit code."""
    # jax: what is wrong with the folder is known without it
    from research.checkpoints.folder import absolute, steps_in
    from research.run.run import build
    from research.training import loop

    made = build(config)
    if made.steps in steps_in(absolute(str(target / "checkpoints"))):
        raise UserError(f"{target} is finished already; remove it, or give another --workdir")
    if before and before[-1]["data"] != made.data_key:
        raise UserError(
            f"the data (or the tokenizer) is not that of {folder} any more; the sources are: "
            f"{', '.join(_sources(config))}"
        )
    now = starts.describe(made.data_key, made.start_key)
    # A run that goes on does not read it again.
    first = next((start for start in reversed(before) if start["step"] == 0), now)
    if first["init_from"] != now["init_from"]:
        raise UserError(
            f"{config.init_from} is not the checkpoint any more that {folder} started from"
        )
    for line in _changes(before, now):
        print(line, flush=True)
    try:
        loop.train(config, str(target), label="again")
    except loop.Interrupted as stopped:
        print(f"\n{stopped}; its checkpoint is saved. The same command goes on.", file=sys.stderr)
        return 130
    old, new = _lines(folder), _lines(target)
    found = difference(old, new[: len(old)])
    if not found and len(old) < len(new):
        last = json.loads(old[-1])["step"] if old else 0
        print(f"{target} is the same run as far as that one went, to step {last}")
        return 0
    if found:
        print(f"{target} is not the same run: {found}")
        if now["devices"]["platform"] == "gpu" and not config.train.deterministic:
            print("on GPU only runs with config.train.deterministic=true are the same each time")
        return DIFFERS
    print(f"{target} is the same run: {len(old)} lines of {METRICS} are identical")
    return 0


def _config(folder: epath.Path) -> Config:
    if not (folder / CONFIG).exists():
        raise starts.no_run(folder)
    if not (folder / METRICS).exists():
        raise UserError(f"{folder} has no {METRICS}: nothing was trained there")
    lines(folder / METRICS, strict=True)  # what is damaged is said before anything is trained
    file = folder / CONFIG
    return from_values(json_object(file.read_bytes(), str(file)), str(file))


def _sources(config: Config) -> list[str]:
    data = config.data
    return [s.name for s in (*data.corpus, data.train, data.validation) if s is not None]


def _changes(before: list[dict[str, Any]], now: dict[str, Any]) -> Iterator[str]:
    """What is not as it was at the run's last start, a line each."""
    if not before:
        yield f"it is not known what the run was made with: it has no {starts.FILE}"
        return
    then = before[-1]
    for name in sorted({**then["versions"], **now["versions"]}):
        ours, theirs = now["versions"].get(name, "none"), then["versions"].get(name, "none")
        if ours != theirs:
            yield f"other version: {name} {theirs} then, {ours} now"
    for group in ("devices", "machine"):
        for name, ours in now[group].items():
            theirs = then[group].get(name, ours)  # what was not noted yet
            if ours != theirs:
                yield f"other {group}: {name} {theirs} then, {ours} now"
    if then["commit"] is None:
        yield "it is not known with what code it was made: no commit was noted"
    elif now["commit"] != then["commit"]:
        yield f"other code: commit {then['commit']} then, {now['commit']} now"
    if (now["diff"], now["untracked"]) != (then["diff"], then["untracked"]):
        yield "other code: the uncommitted changes are not the same"


def difference(before: list[str], now: list[str]) -> str:
    """The first place where two files of metrics differ; empty where they do not."""
    for ours, theirs in zip(now, before, strict=False):
        if ours == theirs:
            continue
        new, old = json.loads(ours), json.loads(theirs)
        for key in (*old, *new):
            if old.get(key) != new.get(key):
                return f"at step {old['step']}, {key} was {old.get(key)} and is {new.get(key)}"
    if len(before) != len(now):
        return f"there were {len(before)} lines of {METRICS} and are {len(now)}"
    return ""


def _lines(folder: epath.Path) -> list[str]:
    *whole, _ = (folder / METRICS).read_bytes().split(b"\n")  # the last one may be cut off
    return [line.decode("utf-8") for line in whole]
