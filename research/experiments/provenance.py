"""What runs were made with, and in what they differ."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from research.experiments.sheets import Sheet
from research.monitoring import starts

LONGEST = 60  # characters of a value of a config
SEED = re.compile(r"-seed[\d.]+$")


def config_differences(configs: Mapping[str, Mapping[str, Any]]) -> Sheet:
    """The keys in which runs differ, by the flat configs of the runs."""
    configs = {name: of_one_kind(values) for name, values in configs.items()}
    keys = dict.fromkeys(key for values in configs.values() for key in values)
    rows = []
    for key in keys:
        found = [json.dumps(values[key]) if key in values else "" for values in configs.values()]
        if len(set(found)) > 1:
            rows.append([key, *map(_shortened, found)])
    return Sheet("Differences of the configs", ["key", *configs], rows, name="configs")


def of_one_kind(values: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config without what differs between the seeds of one run: its seed, and that of the
    run that it starts from."""
    found = {key: value for key, value in values.items() if key != "seed"}
    if "init_from" in found:
        found["init_from"] = SEED.sub("", str(found["init_from"]))
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def about(folders: Sequence[Path]) -> list[str]:
    """Commits, versions and machines of the runs, and what they took."""
    found = [start for folder in folders for start in starts.read(folder)]
    if not found:
        return []
    lines = []
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
        f"{s['machine']['cores']} cores, {s['machine']['system']}"
        for s in found
    )
    lines.append(f"Machine: {'; '.join(machines)}.")
    commands = dict.fromkeys(" ".join(s["command"]) for s in found)
    if len(commands) <= 3:
        lines += [f"Command: {command}" for command in commands]
    return lines
