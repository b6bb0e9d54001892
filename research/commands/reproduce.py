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
NEEDED = ("step", "untracked", "init_from")  # keys of starts.jsonl beside those always there


def run(run: list[str], workdir: str = "") -> int:
    """Repeats a run from its config.json, and compares metrics.jsonl line by line."""
    if len(run) != 1:
        raise UserError(f"reproduce: one run at a time, not {len(run)}")
    folder = bucket.path(run[0].rstrip("/"))
    config, before = _config(folder), starts.read(folder, NEEDED, strict=True)
    with _cores_of(before):
        return _again(folder, config, before, bucket.path(workdir or f"{folder}-again"))


@contextmanager
def _cores_of(before: list[dict[str, Any]]) -> Iterator[None]:
    """Limits this process to the number of cores that the run had at its last start.

    On CPU that number decides the last digits. jax reads it once, before the first computation.
    """
    available = lanes.cores()
    count = before[-1]["machine"]["cores"] if before else len(available)
    on_cpu = before and before[-1]["devices"]["platform"] == "cpu"
    if not on_cpu or count >= len(available) or not hasattr(os, "sched_setaffinity"):
        yield
        return
    print(f"on {count} of {len(available)} cores, as the run had", flush=True)
    os.sched_setaffinity(0, available[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, available)


def _again(
    folder: epath.Path, config: Config, before: list[dict[str, Any]], target: epath.Path
) -> int:
    """Trains in `target` and compares; returns the exit code."""
    # jax is imported late: errors of the folder do not need it
    from research.checkpoints.folder import absolute, steps_in
    from research.run.run import build
    from research.training import loop

    built = build(config)
    if built.steps in steps_in(absolute(str(target / "checkpoints"))):
        raise UserError(f"{target} is finished already; remove it or give another --workdir")
    if before and before[-1]["data"] != built.data_key:
        raise UserError(
            f"the data or the tokenizer has changed since {folder} was made; the sources are: "
            f"{', '.join(_sources(config))}"
        )
    now = starts.describe(built.data_key, built.start_key)
    # Only a start at step 0 reads init_from.
    first = next((start for start in reversed(before) if start["step"] == 0), now)
    if first["init_from"] != now["init_from"]:
        raise UserError(f"{config.init_from} is not the checkpoint that {folder} started from")
    for line in _changes(before, now):
        print(line, flush=True)
    try:
        loop.train(config, str(target), label="again")
    except loop.Interrupted as stopped:
        print(f"\n{stopped}; its checkpoint is saved. The same command resumes.", file=sys.stderr)
        return 130
    old, new = _lines(folder), _lines(target)
    changed = difference(old, new[: len(old)])
    if not changed and len(old) < len(new):
        last = json.loads(old[-1])["step"] if old else 0
        print(f"{target} is the same run as far as that one went, to step {last}")
        return 0
    if changed:
        print(f"{target} is not the same run: {changed}")
        if now["devices"]["platform"] == "gpu" and not config.train.deterministic:
            print("on GPU only runs with config.train.deterministic=true are reproducible")
        return DIFFERS
    print(f"{target} is the same run: {len(old)} lines of {METRICS} are identical")
    return 0


def _config(folder: epath.Path) -> Config:
    if not (folder / CONFIG).exists():
        raise starts.no_run(folder)
    if not (folder / METRICS).exists():
        raise UserError(f"{folder} has no {METRICS}: nothing was trained there")
    lines(folder / METRICS, strict=True)  # raises if damaged, before training
    file = folder / CONFIG
    return from_values(json_object(file.read_bytes(), str(file)), str(file))


def _sources(config: Config) -> list[str]:
    data = config.data
    return [s.name for s in (*data.corpus, data.train, data.validation) if s is not None]


def _changes(before: list[dict[str, Any]], now: dict[str, Any]) -> Iterator[str]:
    """Yields a line for each difference from the run's last start."""
    if not before:
        yield f"unknown what the run was made with: it has no {starts.FILE}"
        return
    then = before[-1]
    for name in sorted({**then["versions"], **now["versions"]}):
        new, old = now["versions"].get(name, "none"), then["versions"].get(name, "none")
        if new != old:
            yield f"other version: {name} {old} then, {new} now"
    for group in ("devices", "machine"):
        for name, new in now[group].items():
            old = then[group].get(name, new)  # older versions did not note it
            if new != old:
                yield f"other {group}: {name} {old} then, {new} now"
    if then["commit"] is None:
        yield "unknown code: no commit was noted"
    elif now["commit"] != then["commit"]:
        yield f"other code: commit {then['commit']} then, {now['commit']} now"
    if (now["diff"], now["untracked"]) != (then["diff"], then["untracked"]):
        yield "other code: the uncommitted changes differ"


def difference(before: list[str], now: list[str]) -> str:
    """Describes the first difference of two metrics files; "" if they are equal."""
    for new_line, old_line in zip(now, before, strict=False):
        if new_line == old_line:
            continue
        new, old = json.loads(new_line), json.loads(old_line)
        for key in (*old, *new):
            if old.get(key) != new.get(key):
                return f"at step {old['step']}, {key} was {old.get(key)} and is {new.get(key)}"
    if len(before) != len(now):
        return f"{METRICS} had {len(before)} lines and has {len(now)}"
    return ""


def _lines(folder: epath.Path) -> list[str]:
    *whole, _ = (folder / METRICS).read_bytes().split(b"\n")  # the last may be cut off
    return [line.decode("utf-8") for line in whole]
