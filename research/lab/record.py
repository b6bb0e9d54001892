"""Reads the files in a run's folder, which `workers.job` writes, for reports and checks."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from etils import epath

from research.config import Config, from_values
from research.errors import UserError
from research.lab.experiment import Job
from research.metrics.counts import from_json
from research.monitoring import starts
from research.monitoring.writers import METRICS, TIMING, json_object, lines

BEGUN = "begun.json"
DONE = "done.json"
KEYS = {  # keys that each file must have
    BEGUN: ("fingerprint",),
    DONE: ("fingerprint", "commit"),
}
SCORED = "test.jsonl"  # one line per test example: prediction and counts
CHECKPOINTS = "checkpoints"
VALIDATION = "validation/"  # prefix of metrics of the validation split


@dataclasses.dataclass(frozen=True)
class Record:
    """A run's folder, whose files are read once each.

    name: name of the run's row, which its seeds share; seeds: as in `Job`.
    declared: its config in an experiment; None: take the one in its folder.
    measured: fingerprint of the evaluation data; "": assume that files of one name are the same.
    """

    folder: Path
    name: str
    seeds: tuple[int, ...] = ()
    declared: Config | None = None
    measured: str = ""

    @classmethod
    def of(cls, job: Job) -> "Record":
        """Returns the record of a run of an experiment."""
        return cls(job.workdir, job.run, job.seeds, job.config)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The resolved config, {} if there is none. Raises UserError if it is damaged."""
        file = self.folder / starts.CONFIG
        if not file.exists():
            return {}
        values = json_object(file.read_bytes(), str(file))
        try:
            sources_of(values)
            (values.get("task") or {}).get("name")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file} is damaged: no run's data or task: {error!r}") from error
        return values

    @cached_property
    def config(self) -> Config:
        """The config. Raises UserError for keys of another version that are no longer known."""
        file = str(self.folder / starts.CONFIG)
        return self.declared or from_values(self.values, file, to_run=False)

    @property
    def trained(self) -> bool:
        """Whether the run has its own weights."""
        return (self.folder / CHECKPOINTS).exists()

    @property
    def start(self) -> str:
        """The checkpoint whose weights the run started with; "" for new weights."""
        restored = self.values.get("init", "restore") == "restore"
        return self.values.get("init_from", "") if restored else ""

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        return starts.read(self.folder)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last evaluation on the validation split."""
        last: dict[str, float] = {}
        for line in lines(self.folder / METRICS):
            values = {k.removeprefix(VALIDATION): float(line[k]) for k in line if VALIDATION in k}
            last = values or last
        return last

    @cached_property
    def done(self) -> dict[str, Any]:
        """Values of a finished run of an experiment: fingerprint, commit, step, seconds, sources.

        Raises UserError if the file is damaged.
        """
        file = self.folder / DONE
        values = read_record(file, ("seconds", "step"))
        if not isinstance(values["seconds"], int | float):
            raise UserError(f"{file} is damaged: seconds={values['seconds']}")
        return values

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """{"prediction", "counts"} per test example. Raises UserError if the file is damaged."""
        scores = lines(self.folder / SCORED, ("prediction", "counts"), strict=True)
        try:
            return [line | {"counts": from_json(line["counts"])} for line in scores]
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{self.folder / SCORED} is damaged: counts: {error!r}") from error

    @property
    def seconds(self) -> float:
        """Seconds of the whole run if it belongs to an experiment, otherwise of its training."""
        if (self.folder / DONE).exists():
            return float(self.done["seconds"])
        return sum(float(line["seconds"]) for line in lines(self.folder / TIMING, ("seconds",)))

    def measured_on(self, split: str) -> tuple[str, str]:
        """Returns (task, data and its amount); only runs that share both are compared."""
        data, train = self.values.get("data", {}), self.values.get("train", {})
        task = (self.values.get("task") or {}).get("name", "")
        sources = [data.get(split) or data.get("validation")] if task else data.get("corpus") or []
        parts = list(map(source_text, filter(None, sources)))
        if not task:
            parts.append(f"{data.get('held_out_percent', 2.0):g} % held out")
        if (batches := train.get("eval_batches", 0)) and split == "validation":
            unit = "examples" if task else "positions"
            parts.append(f"the first {batches * train.get('batch_size', 0):,} {unit}")
        if self.measured and split == "validation":
            parts.append(self.measured[:12])
        return task, ", ".join(parts)


def read_record(file: epath.Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Reads BEGUN or DONE. Raises UserError if the file is damaged or lacks a key."""
    try:
        return json_object(file.read_bytes(), str(file), (*KEYS[file.name], *keys))
    except UserError as error:
        raise UserError(f"{error}; remove it to resume the run from its checkpoints") from error


def sources_of(values: Mapping[str, Any]) -> list[str]:
    """Describes the sources of a run's config, one string for each split."""
    data = values.get("data") or {}
    used = {"corpus": data.get("corpus") or []}
    used |= {split: [data[split]] for split in ("train", "validation", "test") if data.get(split)}
    return [
        f"{name} {', '.join(map(source_text, sources))}"
        for name, sources in used.items()
        if sources
    ]


def source_text(source: Mapping[str, Any]) -> str:
    """Describes a source of a config: its name, and the part of it that is used."""
    text = source["name"] + (f"[{source['split']}]" if source.get("split") else "")
    text += f" {source['percent']:g} %" if source.get("percent", 100) != 100 else ""
    if part := source.get("part"):
        text += f", {part[0]:g} to {part[1]:g} % by hash"
    return text + (f", the first {source['take']:,}" if source.get("take") else "")
