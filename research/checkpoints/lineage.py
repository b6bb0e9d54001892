"""The training texts of weights: those of their run, and of the checkpoint it started from.

Each checkpoint lists the sources with their fingerprints, so that whoever has the sources can count
their overlap with held-out texts, even if the runs in between are gone.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from research import tasks
from research.checkpoints.reading import read_info
from research.config import Config, from_values
from research.data import kinds, sources
from research.data.sources import SourceConfig
from research.errors import UserError

READ = "read"  # the key in a checkpoint's meta item
Json = dict[str, Any]


def of_run(config: Config) -> list[Json]:
    """The texts that the weights have read when a run has ended."""
    data, before = config.data, of_start(config)
    if config.task is None:
        own = [_entry(source, "document", data.held_out_percent) for source in data.corpus]
    else:
        own = [_entry(data.train, tasks.kind_of(config.task), 0.0)]
    return before + [entry for entry in own if entry not in before]


def of_start(config: Config) -> list[Json]:
    """The texts that a run's initial weights have read. If their checkpoint does not say so (it was
    imported, or is of an earlier version), one entry says that they are unknown."""
    if not config.init_from or config.init == "fresh":
        return []
    unknown = {"unknown": f"what {config.init_from} has read is not written in it"}
    return read_info(config.init_from).meta.get(READ, [unknown])


def texts(entry: Json) -> Iterator[str]:
    """Reads the texts of an entry again.

    Raises UserError if they are missing, or differ from the texts that the weights have read.
    """
    if "unknown" in entry:
        raise UserError(entry["unknown"])
    source = from_values({"data": {"corpus": [entry["source"]]}}, to_run=False).data.corpus[0]
    if sources.fingerprint(source) != entry["fingerprint"]:
        raise UserError(f"{source.name} has changed since it was read")
    for example in sources.read(source, entry["kind"]):
        if not sources.held_out(example["id"], entry["held_out_percent"]):
            yield from kinds.texts(example)


def _entry(source: SourceConfig, kind: str, held_out_percent: float) -> Json:
    changed = {
        field.name: value
        for field in dataclasses.fields(source)
        if (value := getattr(source, field.name)) != field.default
    }
    return {
        "source": json.loads(json.dumps(changed)),
        "kind": kind,
        "held_out_percent": held_out_percent,
        "fingerprint": sources.fingerprint(source),
    }
