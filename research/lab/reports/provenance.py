"""The provenance of runs: data, code, versions, machines, and differences between their configs."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.config import flat, to_values
from research.lab.record import Record, sources_of
from research.lab.reports.sheets import Sheet

LONGEST = 60  # characters; longer config values are truncated
SEED = re.compile(r"-seed[\d.]+$")


def config_differences(records: Sequence[Record]) -> list[Sheet]:
    """Tabulates the keys in which the configs of runs differ: one table for pre-trainings and one
    per task, because configs of different tasks differ in nearly every key."""
    configs = {r.name: flat(to_values(r.declared) if r.declared else r.values) for r in records}
    tasks = dict.fromkeys(values.get("task.name") for values in configs.values())
    sheets = [
        _config_differences(
            {name: c for name, c in configs.items() if c.get("task.name") == task}, task
        )
        for task in tasks
    ]
    return [sheet for sheet in sheets if sheet.rows]


def _config_differences(configs: Mapping[str, Mapping[str, Any]], task: str | None) -> Sheet:
    configs = {name: _of_one_experiment(of_one_kind(c), c) for name, c in configs.items()}
    keys = dict.fromkeys(key for values in configs.values() for key in values)
    rows = []
    for key in keys:
        texts = [json.dumps(values[key]) if key in values else "" for values in configs.values()]
        if len(set(texts)) > 1:
            rows.append([key, *(t if len(t) <= LONGEST else f"{t[:LONGEST]}…" for t in texts)])
    what = task.replace("_", " ") if task else "pre-training"
    title, name = f"Differences of the configs: {what}", f"configs_{task}" if task else "configs"
    return Sheet(title, ["key", *configs], rows, name=name)


def of_one_kind(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a flat config without its seed and without the seed of the run that it starts from,
    so that all seeds of a run have the same."""
    shared = {key: value for key, value in values.items() if key != "seed"}
    if "init_from" in shared:
        shared["init_from"] = SEED.sub("", str(shared["init_from"]))
    return shared


def _of_one_experiment(shown: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces the folder of the run that it starts from by that run's name."""
    if SEED.search(start := str(values.get("init_from", ""))):
        shown["init_from"] = SEED.sub("", Path(start).name)
    return shown


def data_of(record: Record) -> str:
    """Describes the sources of a run, with the beginning of their data's fingerprint."""
    parts = sources_of(record.values)
    key = next((start["data"] for start in record.starts), "")
    return ", ".join(parts) + (f" ({key[:12]})" if parts and key else "")


def kinds(runs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Returns (task, data) of runs -> its name: the task, with the data if a task has several."""
    unique = list(dict.fromkeys(runs))
    names = [task or "pre-training" for task, _ in unique]
    if len(set(names)) < len(names):
        names = [f"{name}: {sources}" for name, (_, sources) in zip(names, unique, strict=True)]
    return dict(zip(unique, names, strict=True))


def cost(records: Sequence[Record], price: float = 0.0) -> str:
    """Describes the total time of the runs, and its cost if an hour of a device has a price."""
    devices = [r.starts[-1]["devices"]["count"] if r.starts else 1 for r in records]
    seconds = [record.seconds for record in records]
    hours = sum(s * count for s, count in zip(seconds, devices, strict=True)) / 3600
    line = f"The runs took {sum(seconds) / 60:.1f} minutes in total"
    line += f", {hours:.3g} device-hours" if max(devices, default=1) > 1 or price else ""
    return line + (f", {hours * price:,.2f} at {price:g} each." if price else ".")


def about(records: Sequence[Record]) -> list[str]:
    """Lists data, commits, versions, machines and commands of the runs, after any warning."""
    starts = [start for record in records for start in record.starts]
    if not starts:
        return []
    kinds = dict.fromkeys(filter(None, map(data_of, records)))
    lines = [f"Data: {'; '.join(kinds)}."] if kinds else []
    commits = dict.fromkeys(
        f"{s['commit'][:12] if s['commit'] else 'none'}{' with changes' if s['diff'] else ''}"
        for s in starts
    )
    lines.append(f"Commit: {', '.join(commits)}.")
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in s["versions"].items()) for s in starts
    )
    lines.append(f"Versions: {'; '.join(versions)}.")
    machines = dict.fromkeys(
        f"{s['devices']['count']} {s['devices']['kind']} ({s['devices']['platform']}), "
        f"{s['machine']['cores']} cores{_of_model(s['machine'])}, {s['machine']['system']}"
        for s in starts
    )
    lines.append(f"Machine: {'; '.join(machines)}.")
    commands = dict.fromkeys(shlex.join(s["command"]) for s in starts)
    if len(commands) <= 3:
        lines += [f"Command: {command}" for command in commands]
    return [*_chosen_on_test(records), *lines]


def _chosen_on_test(records: Sequence[Record]) -> list[str]:
    """Warns of runs, such as those of a search, whose best checkpoints were chosen on the same
    examples that they are measured on."""
    runs = {}
    for record in records:
        values = record.values
        best, data = values.get("train", {}).get("best"), values.get("data", {})
        if values.get("task") and best and data.get("test") in (None, data.get("validation")):
            runs[SEED.sub("", record.folder.name)] = best.replace("_", " ")
    if not runs:
        return []
    return [
        f"Chosen on the examples that measure them: {', '.join(runs)}. They have no test split, "
        f"and {', '.join(dict.fromkeys(runs.values()))} on the validation split chose the "
        "checkpoint, so these values are better than values on new examples would be."
    ]


def _of_model(machine: Mapping[str, Any]) -> str:
    """Returns the processor's model; older runs and some systems have none."""
    return f" of {machine['cpu']}" if machine.get("cpu") else ""
