"""Where a run's parameters come from, fresh or from another run's checkpoint, and a table of it."""

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
    """What became of each part: name -> "restored", "new", "left", or what was resized."""

    parts: dict[str, str]

    def __str__(self) -> str:
        width = max(len(name) for name in self.parts)
        return "\n".join(f"  {name:<{width}}  {what}" for name, what in self.parts.items())


def fresh(run: Run) -> Any:
    """New parameters, made where they will live: nothing exists unsharded."""
    make = jax.jit(
        lambda key: parameters.init(key, run.model, run.heads), out_shardings=run.param_shardings
    )
    return make(jax.random.key(run.config.seed))


def initial_params(run: Run) -> tuple[Any, Table]:
    """The parameters that a run starts from, as its config says.

    With `init_from` and init="restore" the backbone comes from the checkpoint, and so do heads of
    the same name; a task's head is new where the checkpoint's has another shape (other labels).

    Raises UserError that names every parameter of the backbone, or of the head of a pre-training,
    that is missing or of another shape; and for the labels of a head in another order.
    """
    config = run.config
    if not config.init_from or config.init == "fresh":
        return fresh(run), Table({name: "new" for name in ("backbone", *run.param_shapes["heads"])})
    info = checkpoint_reading.read_info(config.init_from)
    if "backbone" not in info.shapes:
        raise UserError(f"the checkpoint {config.init_from} has no backbone to put a head on")
    theirs = info.shapes
    wanted, heads, resized = _wanted(run, theirs, info.config["model"]["vocab_size"])
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
        if name in theirs.get("heads", {}) and name not in heads:
            parts[f"head {name}"] += f": {_odd_shapes(run, theirs, name)[0]}"
    for name in theirs.get("heads", {}):
        if name not in run.param_shapes["heads"]:
            parts[f"head {name}"] = "left in the checkpoint"
    for path, (before, after) in resized.items():
        parts[path] = f"resized from {before} to {after} rows for the tokens added"
    return params, Table(parts)


def _other_labels(run: Run, theirs: Config) -> str:
    """What is said of a restored head whose outputs had other names.

    theirs: the checkpoint's config.

    Raises UserError where they had the same names in another order.
    """
    ours, names = (list(getattr(c.task, "labels", ())) for c in (run.config, theirs))
    if ours == names or not ours or type(run.config.task) is not type(theirs.task):
        return ""
    if sorted(ours) == sorted(names):
        raise UserError(
            f"config.task.labels are {ours}, and {names} in {run.config.init_from}, whose head is "
            "restored: its outputs would change their meaning; give them in its order, "
            f"'--config.task.labels={json.dumps(names)}', or take new weights "
            "(--config.init=fresh)"
        )
    return f"; what was {', '.join(names)} is now {', '.join(ours)}"


def _wanted(
    run: Run, theirs: Any, entries: int
) -> tuple[dict[str, Any], list[str], dict[str, tuple[int, int]]]:
    """What is restored, path -> shape and place; the heads among it; and the leaves whose
    vocabulary grows, path -> (entries, entries here).

    Left out is what can be added and the checkpoint does not have: adapters, a pooler.
    """
    stored, placed = parameters.by_path(theirs), parameters.by_path(run.param_shardings)
    heads = [
        name
        for name in run.param_shapes["heads"]
        if name in theirs.get("heads", {}) and not (run.task and _odd_shapes(run, theirs, name))
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


def _odd_shapes(run: Run, theirs: Any, name: str) -> list[str]:
    """What of a head has another shape in the checkpoint, but for the rows of a vocabulary."""
    here, there = (
        {path: list(leaf.shape) for path, leaf in parameters.by_path(tree["heads"][name]).items()}
        for tree in (run.param_shapes, theirs)
    )
    return [
        f"its {path} is {there.get(path)} in the checkpoint, {here.get(path)} here"
        for path in sorted(here | there)
        if here.get(path) != there.get(path) and not f"{name}/{path}".endswith(VOCABULARY_LEAVES)
    ]


def _new_leaves(run: Run, paths: list[str]) -> dict[str, jax.Array]:
    """Fresh parameters at these paths; no other one is made."""

    def make(key: jax.Array) -> dict[str, jax.Array]:
        leaves = parameters.by_path(parameters.init(key, run.model, run.heads))
        return {path: leaves[path] for path in paths}

    placed = parameters.by_path(run.param_shardings)
    shardings = {path: placed[path] for path in paths}
    return jax.jit(make, out_shardings=shardings)(jax.random.key(run.config.seed))


def _grown(old: jax.Array, fresh_leaf: jax.Array, before: int) -> jax.Array:
    """The `before` old rows, and fresh ones behind them."""
    rows = jnp.arange(fresh_leaf.shape[0])
    missing = fresh_leaf.shape[0] - old.shape[0]
    padded = jnp.pad(old, [(0, missing)] + [(0, 0)] * (old.ndim - 1))
    old_rows = (rows < before).reshape(-1, *[1] * (old.ndim - 1))
    return jnp.where(old_rows, padded, fresh_leaf)
