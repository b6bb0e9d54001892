"""Which dimension of which parameter is split over which mesh axis.

Every parameter dimension carries a logical name ("heads", "mlp", …). The table RULES says which
names go to the "tensor" axis; a config may change it (`mesh.rules`). "fsdp" has no name of its
own: it takes, leaf by leaf, the largest dimension that is left and divides.
"""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.errors import UserError, nearest

# The mesh axes, outermost first: the last ones have the nearest devices.
AXES = ("data", "fsdp", "context", "tensor")
RULES: dict[str, str | None] = {
    "vocab": "tensor",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "embed": None,
    "head_width": None,
    "positions": None,
    "types": None,
    "classes": None,
    "rank": None,
    "layers": None,
}

# Scanned over: a split here would gather the whole stack to run one layer.
SCANNED = "layers"

Axes = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Fallback:
    """A parameter that "fsdp" could not split: each device holds all of it (or, with a tensor
    rule, all of its part)."""

    path: str
    shape: tuple[int, ...]
    bytes: int


def table(changes: Mapping[str, str | None]) -> dict[str, str | None]:
    """RULES with a config's changes.

    Raises UserError for a logical or mesh axis that does not exist, or one that weights are not
    split over by a rule.
    """
    changes = dict(changes)
    for axis, target in changes.items():
        if axis not in RULES:
            raise UserError(f"config.mesh.rules.{axis} is not a logical axis{nearest(axis, RULES)}")
        if axis == SCANNED and target is not None:
            raise UserError(
                f"config.mesh.rules.{axis}={target!r}: layers run one after the other, a split "
                "would gather all of them to run one"
            )
        if target == "data":
            raise UserError(
                f"config.mesh.rules.{axis}='data': that axis has copies of the weights; 'fsdp' "
                "splits them"
            )
    rules = RULES | changes
    _check_rules(rules)
    return rules


def shardings(
    axes_tree: object, shapes_tree: object, mesh: Mesh, rules: Mapping[str, str | None] = RULES
) -> object:
    """A NamedSharding for every parameter.

    Args:
        axes_tree: the structure of the params, each leaf a tuple of logical axis names (or None),
            one per dimension.
        shapes_tree: the params, or their `jax.ShapeDtypeStruct`s.
        mesh: with the axes `AXES`.
        rules: logical axis -> mesh axis, or None for "not by a rule".

    Returns:
        A tree of NamedSharding with the structure of shapes_tree.

    Raises:
        UserError: an unknown logical or mesh axis, a mesh axis used twice in one parameter, a
            rule whose dimension does not divide by its mesh axis. Each names the parameter.
        ValueError: the two trees differ in structure or rank.
    """
    _check_rules(rules)
    axes = dict(_named(axes_tree, is_leaf=_is_axes))
    leaves = _named(shapes_tree)
    if axes.keys() != dict(leaves).keys():
        odd = sorted(axes.keys() ^ dict(leaves).keys())
        raise ValueError(f"axis names and shapes differ in structure at {', '.join(odd[:8])}")
    found = [
        NamedSharding(mesh, _spec(path, axes[path], leaf.shape, mesh, rules))
        for path, leaf in leaves
    ]
    return jax.tree.unflatten(jax.tree.structure(shapes_tree), found)


def fallbacks(shardings_tree: object, shapes_tree: object) -> list[Fallback]:
    """The parameters that "fsdp" leaves whole, largest first; none when that axis has size 1."""
    left = []
    for (path, leaf), sharding in zip(
        _named(shapes_tree), jax.tree.leaves(shardings_tree), strict=True
    ):
        if sharding.mesh.shape["fsdp"] > 1 and "fsdp" not in sharding.spec:
            local = sharding.shard_shape(tuple(leaf.shape))
            size = int(np.prod(local, dtype=np.int64)) * leaf.dtype.itemsize
            left.append(Fallback(path, tuple(leaf.shape), size))
    return sorted(left, key=lambda f: (-f.bytes, f.path))


def told(fallbacks: list[Fallback], most: int = 5) -> list[str]:
    """The largest ones in a line each, and how many there are more."""
    lines = [
        f"replicated, since fsdp does not divide it: {left.path} {left.shape}"
        for left in fallbacks[:most]
    ]
    more = len(fallbacks) - most
    return [*lines, f"… and {more} more, all of them smaller"] if more > 0 else lines


def like_params(
    opt_state_shapes: object, params_shardings: object, params_shapes: object, mesh: Mesh
) -> object:
    """Shardings for an optimizer state: moments as their parameter, the rest replicated.

    A leaf mirrors a parameter when its path ends in the parameter's path and the shapes are the
    same, whatever the transformations around it are called (chained, masked, injected).

    Args:
        opt_state_shapes: `jax.eval_shape(optimizer.init, params)`.
        params_shardings: what `shardings` gave.
        params_shapes: the params, or their `jax.ShapeDtypeStruct`s.

    Returns:
        A tree of NamedSharding with the structure of opt_state_shapes.
    """
    params = {
        path: (tuple(leaf.shape), sharding)
        for (path, leaf), sharding in zip(
            _named(params_shapes), jax.tree.leaves(params_shardings), strict=True
        )
    }
    found = [
        _mirrored(path, tuple(leaf.shape), params) or NamedSharding(mesh, PartitionSpec())
        for path, leaf in _named(opt_state_shapes)
    ]
    return jax.tree.unflatten(jax.tree.structure(opt_state_shapes), found)


def _mirrored(
    path: str, shape: tuple[int, ...], params: Mapping[str, tuple[tuple[int, ...], NamedSharding]]
) -> NamedSharding | None:
    parts = path.split("/")
    for start in range(len(parts)):  # the longest suffix first
        suffix = "/".join(parts[start:])
        if suffix in params and params[suffix][0] == shape:
            return params[suffix][1]
    return None


def _spec(
    path: str, axes: Axes, shape: tuple[int, ...], mesh: Mesh, rules: Mapping[str, str | None]
) -> PartitionSpec:
    if len(axes) != len(shape):
        raise ValueError(f"{path}: {len(axes)} axis names {axes} for the shape {tuple(shape)}")
    targets: list[str | None] = []
    for dimension, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        if axis is not None and axis not in rules:
            raise UserError(f"{path}: unknown logical axis {axis!r}{nearest(axis, rules)}")
        target = None if axis is None else rules[axis]
        if target is not None and target in targets:
            first = axes[targets.index(target)]
            raise UserError(
                f"{path}: the rules split both {first!r} and {axis!r} over the mesh axis "
                f"{target!r}; an array uses a mesh axis once, so set one of the two to None"
            )
        if target is not None and size % mesh.shape[target]:
            raise UserError(
                f"{path}: dimension {dimension} ({axis!r}) of shape {tuple(shape)} has size "
                f"{size}, which does not divide by the mesh axis {target}={mesh.shape[target]}; "
                f"choose mesh.{target} among the divisors of {size}, or set the rule of "
                f"{axis!r} to None"
            )
        targets.append(target)
    # A mesh axis of size 1 splits nothing, so "fsdp" may have the dimension.
    spec = [target if target and mesh.shape[target] > 1 else None for target in targets]
    count = mesh.shape["fsdp"]
    fits = [
        dimension
        for dimension, size in enumerate(shape)
        if spec[dimension] is None and axes[dimension] != SCANNED and size and size % count == 0
    ]
    if count > 1 and "fsdp" not in spec and fits:
        spec[max(fits, key=lambda dimension: shape[dimension])] = "fsdp"
    return PartitionSpec(*spec)


def _check_rules(rules: Mapping[str, str | None]) -> None:
    for axis, target in rules.items():
        if target is not None and target not in AXES:
            raise UserError(
                f"sharding rule {axis!r} -> {target!r}: no such mesh axis{nearest(target, AXES)}"
            )


def _is_axes(leaf: object) -> bool:
    return isinstance(leaf, tuple) and all(name is None or isinstance(name, str) for name in leaf)


def _named(tree: object, is_leaf=None) -> list[tuple[str, object]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
    ]
