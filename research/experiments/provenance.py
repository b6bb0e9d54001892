"""What runs were made with, and in what they differ."""

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.experiments.job import DONE, read_record
from research.experiments.sheets import Sheet
from research.monitoring import starts
from research.monitoring.writers import TIMING, json_object, lines

LONGEST = 60  # characters of a value of a config
SEED = re.compile(r"-seed[\d.]+$")


def config_differences(configs: Mapping[str, Mapping[str, Any]]) -> list[Sheet]:
    """The keys in which runs differ, by their flat configs: a table of the pre-trainings and one of
    each task, which would differ from each other in nearly every key."""
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
        found = [json.dumps(values[key]) if key in values else "" for values in configs.values()]
        if len(set(found)) > 1:
            rows.append([key, *map(_shortened, found)])
    what = task.replace("_", " ") if task else "pre-training"
    title, name = f"Differences of the configs: {what}", f"configs_{task}" if task else "configs"
    return Sheet(title, ["key", *configs], rows, name=name)


def of_one_kind(values: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config without what differs between the seeds of one run: its seed, and that of the
    run that it starts from."""
    found = {key: value for key, value in values.items() if key != "seed"}
    if "init_from" in found:
        found["init_from"] = SEED.sub("", str(found["init_from"]))
    return found


def _of_one_experiment(shown: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """With the name of the run that it starts from in place of its folder."""
    if SEED.search(start := str(values.get("init_from", ""))):
        shown["init_from"] = SEED.sub("", Path(start).name)
    return shown


def data_of(folder: Path) -> str:
    """The sources of a run, and the beginning of the fingerprint of what was read of them."""
    if not (folder / starts.CONFIG).exists():
        return ""
    parts = _sources(config_of(folder))
    key = next((start["data"] for start in starts.read(folder)), "")
    return ", ".join(parts) + (f" ({key[:12]})" if key else "")


def config_of(folder: Path) -> dict[str, Any]:
    """The resolved config of a run. Raises UserError where it is damaged."""
    file = folder / starts.CONFIG
    found = json_object(file.read_bytes(), str(file))
    try:
        _sources(found)
        (found.get("task") or {}).get("name")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged: no run's data or task: {error!r}") from error
    return found


def _sources(values: Mapping[str, Any]) -> list[str]:
    data = values.get("data") or {}
    used = {"corpus": data.get("corpus") or []}
    used |= {split: [data[split]] for split in ("train", "validation", "test") if data.get(split)}
    return [
        f"{name} {', '.join(map(source_text, sources))}"
        for name, sources in used.items()
        if sources
    ]


def measured_on(values: Mapping[str, Any], split: str, contents: str = "") -> tuple[str, str]:
    """(task, data and how much of it) of a run by its config: runs that do not share them are not
    compared.

    contents: fingerprint of the data, since files of one name may differ; "" where it is not known.
    """
    data, train = values.get("data", {}), values.get("train", {})
    task = (values.get("task") or {}).get("name", "")
    sources = [data.get(split) or data.get("validation")] if task else data.get("corpus") or []
    parts = list(map(source_text, filter(None, sources)))
    if not task:
        parts.append(f"{data.get('held_out_percent', 2.0):g} % held out")
    if (batches := train.get("eval_batches", 0)) and split == "validation":
        unit = "examples" if task else "positions"
        parts.append(f"the first {batches * train.get('batch_size', 0):,} {unit}")
    if contents and split == "validation":
        parts.append(contents[:12])
    return task, ", ".join(parts)


def kinds(runs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What runs are measured on -> its name: the task, with the data where that alone differs."""
    found = list(dict.fromkeys(runs))
    names = [task or "pre-training" for task, _ in found]
    if len(set(names)) < len(names):
        names = [f"{name}: {sources}" for name, (_, sources) in zip(names, found, strict=True)]
    return dict(zip(found, names, strict=True))


def source_text(source: Mapping[str, Any]) -> str:
    """A source of a config in a few words: its name, and what of it is used."""
    text = source["name"] + (f"[{source['split']}]" if source.get("split") else "")
    text += f" {source['percent']:g} %" if source.get("percent", 100) != 100 else ""
    if part := source.get("part"):
        text += f", {part[0]:g} to {part[1]:g} % by hash"
    return text + (f", the first {source['take']:,}" if source.get("take") else "")


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def cost(folders: Sequence[Path], price: float = 0.0) -> str:
    """What the runs took, added up; in money too where an hour of a device has a price."""
    seconds = [_seconds(folder) for folder in folders]
    devices = [_devices(folder) for folder in folders]
    hours = sum(map(math.prod, zip(seconds, devices, strict=True))) / 3600
    line = f"The runs took {sum(seconds) / 60:.1f} minutes, added up"
    line += f", {hours:.3g} hours of a device" if max(devices, default=1) > 1 or price else ""
    return line + (f", {hours * price:,.2f} at {price:g} for one." if price else ".")


def _seconds(folder: Path) -> float:
    """Of a run of an experiment all that it took, of another one its training."""
    if (folder / DONE).exists():
        return float(read_record(folder / DONE, ("seconds",))["seconds"])
    return sum(float(line["seconds"]) for line in lines(folder / TIMING, ("seconds",)))


def _devices(folder: Path) -> int:
    found = starts.read(folder)
    return found[-1]["devices"]["count"] if found else 1


def about(folders: Sequence[Path]) -> list[str]:
    """Data, commits, versions, machines and commands of the runs, and what was chosen on a test."""
    found = [start for folder in folders for start in starts.read(folder)]
    if not found:
        return []
    kinds = dict.fromkeys(filter(None, map(data_of, folders)))
    lines = [f"Data: {'; '.join(kinds)}."] if kinds else []
    commits = dict.fromkeys(
        f"{s['commit'][:12] if s['commit'] else 'none'}{' with changes' if s['diff'] else ''}"
        for s in found
    )
    lines.append(f"Commit: {', '.join(commits)}.")
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in s["versions"].items()) for s in found
    )
    lines.append(f"Versions: {'; '.join(versions)}.")
    machines = dict.fromkeys(
        f"{s['devices']['count']} {s['devices']['kind']} ({s['devices']['platform']}), "
        f"{s['machine']['cores']} cores{_of_model(s['machine'])}, {s['machine']['system']}"
        for s in found
    )
    lines.append(f"Machine: {'; '.join(machines)}.")
    commands = dict.fromkeys(shlex.join(s["command"]) for s in found)
    if len(commands) <= 3:
        lines += [f"Command: {command}" for command in commands]
    return [*_chosen_on_test(folders), *lines]


def _chosen_on_test(folders: Sequence[Path]) -> list[str]:
    """That the best checkpoints of some runs, those of a search among them, were chosen on the
    examples that they are measured on."""
    runs = {}
    for folder in folders:
        values = config_of(folder) if (folder / starts.CONFIG).exists() else {}
        best, data = values.get("train", {}).get("best"), values.get("data", {})
        if values.get("task") and best and data.get("test") in (None, data.get("validation")):
            runs[SEED.sub("", folder.name)] = best.replace("_", " ")
    if not runs:
        return []
    return [
        f"Chosen on what they are measured on: {', '.join(runs)}. There is no test split beside "
        f"the validation split, whose {', '.join(dict.fromkeys(runs.values()))} chose the "
        "checkpoint, so these values are better than those of new examples would be."
    ]


def _of_model(machine: Mapping[str, Any]) -> str:
    """The processor's model; runs of before it was noted, and some systems, have none."""
    return f" of {machine['cpu']}" if machine.get("cpu") else ""
