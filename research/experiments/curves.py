"""Losses and metrics of runs along their steps, tokens and hours, as a page draws them."""

from pathlib import Path
from typing import Any

import numpy as np

from research.monitoring.writers import METRICS, TIMING, lines

FIRST = ("loss",)  # of the metrics that can be chosen
LAST = ("gradient_norm", "learning_rate")
SPEED = ("seconds", "tokens_per_second")  # of each line of the times


def of_run(folder: Path, name: str, group: str) -> dict[str, Any]:
    """{"name", "group", "metrics": {metric: {"step", "tokens", "hours", "value"}}}, lists each.

    Tokens are positions of rows, padding included. Hours are those of training, without evaluations
    and what was lost by a kill.
    """
    measured, times = lines(folder / METRICS), lines(folder / TIMING, SPEED)
    steps = np.array([0, *(line["step"] for line in times)])
    seconds = np.array([0.0, *(line["seconds"] for line in times)])
    tokens = np.array([0.0, *(line["seconds"] * line["tokens_per_second"] for line in times)])
    metrics: dict[str, dict[str, list]] = {}
    for line in measured:
        at = line["step"]
        for metric, value in line.items():
            if metric == "step" or not np.isfinite(float(value)):  # "nan" is a text there
                continue
            found = metrics.setdefault(metric, {"step": [], "tokens": [], "hours": [], "value": []})
            found["step"].append(at)
            found["tokens"].append(round(float(np.interp(at, steps, np.cumsum(tokens)))))
            found["hours"].append(float(np.interp(at, steps, np.cumsum(seconds))) / 3600)
            found["value"].append(value)
    return {"name": name, "group": group, "metrics": metrics}


def metrics_of(runs: list[dict[str, Any]]) -> list[str]:
    """The metrics of all runs, the most looked at first."""
    found = {metric for run in runs for metric in run["metrics"]}
    middle = sorted(found - {*FIRST, *LAST})
    return [*(m for m in FIRST if m in found), *middle, *(m for m in LAST if m in found)]
