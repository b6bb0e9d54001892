"""Initialises a run's parameters, fresh or from another run's checkpoint, and tabulates which."""

import dataclasses
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from research.checkpoints import reading as checkpoint_reading
from research.config import Config, of_checkpoint
from research.errors import UserError
from research.models import lora
from research.models import params as parameters
from research.run.run import Run

ADDABLE = re.compile(rf"backbone/(pooler|.*?{lora.SUFFIX})/")
VOCABULARY_LEAVES = ("embedding/word", "masked_lm/bias", "causal_lm/table")  # rows are entries


@dataclasses.dataclass(frozen=True)
class Table:
    """The origin of each part: name -> "restored …", "new", "left …" or "resized …"."""

    parts: dict[str, str]

    def __str__(self) -> str:
        width = max(len(name) for name in self.parts)
        return "\n".join(f"  {name:<{width}}  {what}" for name, what in self.parts.items())


def fresh(run: Run) -> Any:
    """Returns new parameters, created sharded: no unsharded copy ever exists."""
    make = jax.jit(
        lambda key: parameters.init(key, run.model, run.heads), out_shardings=run.param_shardings
    )
    return make(jax.random.key(run.config.seed))


def initial_params(run: Run) -> tuple[Any, Table]:
    """Returns the parameters that a run's config says to start from.

    With `init_from` and init="restore" the backbone comes from the checkpoint, and so do heads of
    the same name; a task's head is new if the checkpoint's has another shape (other labels).

    Raises UserError that names every missing or differently shaped parameter of the backbone or of
    a pre-training head; and if a restored head has the same labels in another order.
    """
    config = run.config
    if not config.init_from or config.init == "fresh":
        return fresh(run), Table({name: "new" for name in ("backbone", *run.param_shapes["heads"])})
    info = checkpoint_reading.read_info(config.init_from)
    if "backbone" not in info.shapes:
        raise UserError(f"the checkpoint {config.init_from} has no backbone to put a head on")
    stored = info.shapes
    wanted, heads, resized = _wanted(run, stored, info.config["model"]["vocab_size"])
    renamed = _other_labels(run, of_checkpoint(info.config, config.init_from))
    info, params = checkpoint_reading.restore_params(
        config.init_from, unflatten_dict(wanted, sep="/")
    )
    restored = parameters.by_path(params)
    shapes = parameters.by_path(run.param_shapes)
    new = _new_leaves(run, [path for path in shapes if path not in restored or path in resized])
    for path, (before, _) in resized.items():
        new[path] = _grown(restored.pop(path), new[path], before)
    params = parameters.map_by_path(lambda path, _: (restored | new)[path], run.param_shapes)
    if resized:
        params = jax.device_put(params, run.param_shardings)
    parts = {"backbone": f"restored from {config.init_from}, step {info.step}"}
    parts |= {path: "new" for path in new if path.startswith("backbone/") and path not in resized}
    for name in run.param_shapes["heads"]:
        parts[f"head {name}"] = f"restored{renamed}" if name in heads else "new"
        if name in stored.get("heads", {}) and name not in heads:
            parts[f"head {name}"] += f": {_odd_shapes(run, stored, name)[0]}"
    for name in stored.get("heads", {}):
        if name not in run.param_shapes["heads"]:
            parts[f"head {name}"] = "left in the checkpoint"
    for path, (before, after) in resized.items():
        parts[path] = f"resized from {before} to {after} rows for the tokens added"
    return params, Table(parts)


def _other_labels(run: Run, start: Config) -> str:
    """Returns a note for the table if a restored head's labels are renamed.

    start: the checkpoint's config.

    Raises UserError if the labels are the same in another order.
    """
    labels, names = (list(getattr(c.task, "labels", ())) for c in (run.config, start))
    if labels == names or not labels or type(run.config.task) is not type(start.task):
        return ""
    if sorted(labels) == sorted(names):
        raise UserError(
            f"config.task.labels are {labels}, but {names} in {run.config.init_from}, whose head "
            "is restored: its outputs would change their meaning; give them in its order, "
            f"'--config.task.labels={json.dumps(names)}', or take new weights "
            "(--config.init=fresh)"
        )
    return f"; labels {', '.join(names)} become {', '.join(labels)}"


def _wanted(
    run: Run, tree: Any, entries: int
) -> tuple[dict[str, Any], list[str], dict[str, tuple[int, int]]]:
    """Returns the leaves to restore, path -> shape and sharding; the names of restored heads; and
    the leaves whose vocabulary grows, path -> (entries in the checkpoint, entries here).

    Leaves out adapters and a pooler that the checkpoint lacks: those start new.
    """
    stored, placed = parameters.by_path(tree), parameters.by_path(run.param_shardings)
    heads = [
        name
        for name in run.param_shapes["heads"]
        if name in tree.get("heads", {}) and not (run.task and _odd_shapes(run, tree, name))
    ]
    leaves, resized = {}, {}
    for path, leaf in parameters.by_path(run.param_shapes).items():
        if path.startswith("heads/") and path.split("/")[1] not in heads:
            continue
        addable = ADDABLE.match(path)
        if addable and not any(other.startswith(addable[0]) for other in stored):
            continue
        size = tuple(leaf.shape)
        # A table may have room for the new entries already: its rows are padded.
        grows = path.endswith(VOCABULARY_LEAVES) and entries < run.model.vocab_size
        if grows and path in stored:
            resized[path] = (entries, run.model.vocab_size)
            size = (stored[path].shape[0], *size[1:])
        leaves[path] = jax.ShapeDtypeStruct(size, leaf.dtype, sharding=placed[path])
    return leaves, heads, resized


def _odd_shapes(run: Run, stored: Any, name: str) -> list[str]:
    """Describes each leaf of a head with another shape in the checkpoint, vocabulary rows aside."""
    here, before = (
        {path: list(leaf.shape) for path, leaf in parameters.by_path(tree["heads"][name]).items()}
        for tree in (run.param_shapes, stored)
    )
    return [
        f"its {path} is {before.get(path)} in the checkpoint, {here.get(path)} here"
        for path in sorted(here | before)
        if here.get(path) != before.get(path) and not f"{name}/{path}".endswith(VOCABULARY_LEAVES)
    ]


def _new_leaves(run: Run, paths: list[str]) -> dict[str, jax.Array]:
    """Returns fresh parameters at these paths, and creates no others."""

    def make(key: jax.Array) -> dict[str, jax.Array]:
        leaves = parameters.by_path(parameters.init(key, run.model, run.heads))
        return {path: leaves[path] for path in paths}

    placed = parameters.by_path(run.param_shardings)
    shardings = {path: placed[path] for path in paths}
    return jax.jit(make, out_shardings=shardings)(jax.random.key(run.config.seed))


def _grown(old: jax.Array, fresh_leaf: jax.Array, before: int) -> jax.Array:
    """Returns the first `before` old rows followed by fresh ones."""
    rows = jnp.arange(fresh_leaf.shape[0])
    missing = fresh_leaf.shape[0] - old.shape[0]
    padded = jnp.pad(old, [(0, missing)] + [(0, 0)] * (old.ndim - 1))
    old_rows = (rows < before).reshape(-1, *[1] * (old.ndim - 1))
    return jnp.where(old_rows, padded, fresh_leaf)
