"""Lists every key of a config, with its default and its meaning from the classes' docstrings."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from research import values
from research.config.schema import Config
from research.data.sources import SourceConfig
from research.objectives import config_class
from research.tasks import TASKS

REQUIRED = "required"  # in place of a default
# Names of keys in other projects, and the names here.
SYNONYMS = {
    "lr": "learning_rate",
    "peak_lr": "learning_rate",
    "wd": "weight_decay",
    "beta1": "b1",
    "beta2": "b2",
    "eps": "epsilon",
    "bs": "batch_size",
    "batch": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "lr_schedule": "schedule",
    "lr_scheduler_type": "schedule",
    "clip_norm": "clip",
    "grad_clip": "clip",
    "max_grad_norm": "clip",
    "max_steps": "steps",
    "train_steps": "steps",
    "num_steps": "steps",
    "epoch": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "gradient_accumulation_steps": "accumulation",
    "grad_accum": "accumulation",
    "seq_len": "length",
    "seq_length": "length",
    "max_length": "length",
    "max_len": "length",
    "max_seq_length": "length",
    "block_size": "length",
    "hidden_size": "width",
    "d_model": "width",
    "n_layers": "layers",
    "num_layers": "layers",
    "n_heads": "heads",
    "num_heads": "heads",
    "eval_steps": "eval_every",
    "save_steps": "checkpoint_every",
    "save_every": "checkpoint_every",
    "logging_steps": "log_every",
    "precision": "dtype",
    "optim": "optimizer.name",
    "mask_rate": "masked_lm.rate",
    "mlm_probability": "masked_lm.rate",
    "slots": "segments",
    "checkpoint": "init_from",
    "resume_from": "init_from",
    "model_name_or_path": "init_from",
}


@dataclasses.dataclass(frozen=True)
class Key:
    """default: the value if a config file does not set the key; valid: a sentence with the valid
    values, if the type alone does not say them."""

    default: Any
    meaning: str
    valid: str = ""


def of_task(name: str) -> dict[str, Key]:
    """The keys of a task, "task.labels" -> Key."""
    names = Key(REQUIRED, "name of the task.", _valid(Literal[*TASKS]))
    return {"task.name": names} | dict(_keys(TASKS[name].Options, "task."))


def of_config() -> dict[str, Key]:
    """The keys of every config, "group.key" -> Key, and those of the losses that it may have."""
    return dict(_keys(Config, ""))


def meant(path: str) -> list[str]:
    """The keys that a synonym, or a name in the wrong group, may mean: "lr", "train.lr" and
    "learning_rate" mean optimizer.learning_rate."""
    keys = list(of_config() | {key: None for name in TASKS for key in of_task(name)})
    if path in keys:
        return [path]
    last = path.rpartition(".")[2].replace("-", "_").lower()
    wanted = f".{SYNONYMS.get(last, last)}"
    return [key for key in keys if f".{key}".endswith(wanted)]


def _valid(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return f"One of {', '.join(map(str, typing.get_args(annotation)))}."
    ranged = any(isinstance(rule, values.Range) for rule in typing.get_args(annotation))
    return f"{values.meant(annotation).capitalize()}." if ranged else ""


def _keys(kind: type, prefix: str) -> Iterator[tuple[str, Key]]:
    meanings = values.meanings(kind)
    hints = values.hints(kind) | ({"objective": config_class() | None} if kind is Config else {})
    for field in dataclasses.fields(kind):
        annotation = hints[field.name]
        if isinstance(annotation, types.UnionType):
            annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
        default = REQUIRED if field.default is dataclasses.MISSING else field.default
        is_group = dataclasses.is_dataclass(annotation) and annotation is not SourceConfig
        if not is_group or default is None:  # also a group that may be left out
            key = Key(default, meanings.get(field.name, ""), _valid(annotation))
            yield f"{prefix}{field.name}", key
        if is_group:
            yield from _keys(annotation, f"{prefix}{field.name}.")
