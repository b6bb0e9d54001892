"""Prepares the curves of a page: losses and metrics of runs by steps, positions and hours."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from research.lab.record import Record
from research.monitoring.writers import METRICS, TIMING, lines

FIRST = ("loss",)  # first in the list of metrics to choose from
LAST = ("gradient_norm", "learning_rate")
SPEED = ("seconds", "tokens_per_second")  # keys that each line of the timing file must have
BY = ("step", "positions", "hours")
DIGITS = 6  # significant digits of a number on the page
# Reference levels of a stage: metric -> simple method or "chance" -> its value.
Levels = Mapping[str, Mapping[str, float]]


def of_runs(
    records: Sequence[Record],
    stages: Mapping[str, str] | None = None,
    levels: Mapping[str, Levels] | None = None,
) -> dict[str, Any]:
    """Returns the data of the page's plots: {"metrics": names, the first is drawn first, "stages":
    [{"name", "levels", "variants": [{"name", "runs", "metrics": see `_joined`}]}]}.

    A variant joins the seeds of a run; stages: variant -> pre-training, or a task. Each stage has
    its own axes.
    """
    by_stage: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        by_stage[(stages or {}).get(record.name, "")][record.name].append(_of_run(record.folder))
    drawn_stages = []
    for stage, variants in by_stage.items():
        drawn = [
            {"name": name, "runs": len(same), "metrics": _joined(same)}
            for name, same in variants.items()
        ]
        own = (levels or {}).get(stage, {})
        drawn_stages.append({"name": stage.replace("_", " "), "levels": own, "variants": drawn})
    names = {m for stage in drawn_stages for v in stage["variants"] for m in v["metrics"]}
    middle = sorted(names - {*FIRST, *LAST})
    ordered = [*(m for m in FIRST if m in names), *middle, *(m for m in LAST if m in names)]
    return {"metrics": ordered, "stages": drawn_stages if ordered else []}


def _of_run(folder: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Returns metric -> step -> {"step", "positions", "hours", "value"}.

    Positions include padding. Hours count training only, without evaluations and without time that
    a kill lost.
    """
    measured, times = lines(folder / METRICS), lines(folder / TIMING, SPEED)
    steps = np.array([0, *(line["step"] for line in times)])
    seconds = np.array([0.0, *(line["seconds"] for line in times)])
    positions = np.array([0.0, *(line["seconds"] * line["tokens_per_second"] for line in times)])
    metrics: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for line in measured:
        at = line["step"]
        for metric, value in line.items():
            if metric == "step" or not np.isfinite(float(value)):  # "nan" is a string in the file
                continue
            metrics[metric][at] = {
                "step": at,
                "positions": float(np.interp(at, steps, np.cumsum(positions))),
                "hours": float(np.interp(at, steps, np.cumsum(seconds))) / 3600,
                "value": float(value),
            }
    return metrics


def _joined(runs: Sequence[Mapping[str, Mapping[int, Mapping[str, float]]]]) -> dict[str, Any]:
    """Returns metric -> {"step", "positions", "hours", "value"}, lists of means over the variant's
    runs that have a value at a step. Several runs also get "low" and "high", the lowest and highest
    value, and "of", the number of runs."""
    joined = {}
    for metric in dict.fromkeys(metric for run in runs for metric in run):
        by_step = defaultdict(list)
        for run in runs:
            for step, point in run.get(metric, {}).items():
                by_step[step].append(point)
        points = [by_step[step] for step in sorted(by_step)]
        columns = {key: [mean(p[key] for p in same) for same in points] for key in (*BY, "value")}
        if len(runs) > 1:
            columns["low"] = [min(p["value"] for p in same) for same in points]
            columns["high"] = [max(p["value"] for p in same) for same in points]
            columns["of"] = [len(same) for same in points]
        joined[metric] = {
            key: [float(f"{value:.{DIGITS}g}") for value in column]
            for key, column in columns.items()
        }
    return joined
