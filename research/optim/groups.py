"""Which parameters learn how fast: multipliers of the learning rate by pattern and by layer.

Patterns are regular expressions that are searched for in virtual paths, in which a stacked
parameter has the number of its layer: "backbone/layers/07/attention/query/kernel". A multiplier of
0 freezes. A parameter that is frozen in all its layers has no optimizer state and no gradient.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from research.errors import UserError, nearest
from research.models.params import by_path, stack_of

TRAINED, FROZEN = "trained", "frozen"
SHOWN = 100  # lines of a table: a rate for each layer of a large model


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters with one multiplier: how many numbers, and the paths of the first ones."""

    multiplier: float
    count: int
    paths: tuple[str, ...]


def virtual(path: str, shape: tuple[int, ...]) -> list[str]:
    """The virtual paths of a parameter: one for each layer where it is stacked."""
    stack = stack_of(path)
    if not stack:
        return [path]
    rest = path.removeprefix(stack)
    return [f"{stack}{layer:02d}/{rest}" for layer in range(shape[0])]


def check(rates: Mapping[str, float], freeze: tuple[str, ...], layer_decay: float) -> None:
    """Raises UserError for a pattern that is not a regular expression, or a rate out of range."""
    for key, patterns in (("rates", rates or ()), ("freeze", freeze)):
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"config.optimizer.{key}: {pattern!r} is not a regular expression ({error})"
                ) from error
    for pattern, rate in (rates or {}).items():
        if not 0.0 <= rate < math.inf:
            raise UserError(f"config.optimizer.rates[{pattern!r}]={rate} must be at least 0")
    if not 0.0 < layer_decay <= 1.0:
        raise UserError(f"config.optimizer.layer_decay={layer_decay} must be in (0, 1]")


def multipliers(
    shapes: Any, rates: Mapping[str, float], freeze: tuple[str, ...], layer_decay: float
) -> dict[str, np.ndarray]:
    """Path -> multiplier [layers] of a stacked parameter, [] of any other.

    Layer i of the n of its backbone has layer_decay ** (n - i), the embeddings layer_decay **
    (n + 1), what comes after the layers 1 (Howard & Ruder 2018, arXiv:1801.06146; Clark et al.
    2020, 2003.10555). The rate of the last pattern that fits multiplies that.

    Raises UserError for a pattern that fits no parameter.
    """
    fitting = {pattern: 0 for pattern in (*(rates or ()), *freeze)}
    leaves = by_path(shapes)
    layers = {stack_of(path): leaf.shape[0] for path, leaf in leaves.items() if stack_of(path)}
    found = {}
    for path, leaf in leaves.items():
        stack, values = stack_of(path), []
        name, _, rest = path.partition("/")
        of = layers.get(f"{name}/layers/")  # how many its backbone has
        for layer, place in enumerate(virtual(path, leaf.shape)):
            value = 1.0
            if stack:
                value = layer_decay ** (of - layer)
            elif of and rest.startswith("embedding/"):
                value = layer_decay ** (of + 1)
            own = 1.0
            for pattern, rate in (rates or {}).items():
                if re.search(pattern, place):
                    fitting[pattern] += 1
                    own = rate
            for pattern in freeze:
                if re.search(pattern, place):
                    fitting[pattern] += 1
                    own = 0.0
            values.append(value * own)
        found[path] = np.array(values if stack else values[0], np.float32)
    for pattern, count in fitting.items():
        if not count:
            names = [name for path, leaf in leaves.items() for name in virtual(path, leaf.shape)]
            raise UserError(
                f"config.optimizer: the pattern {pattern!r} fits no parameter"
                f"{nearest(pattern, names, shown=4)}"
            )
    return found


def labels(shapes: Any, found: Mapping[str, np.ndarray]) -> Any:
    """The tree of `shapes` with "trained" or, where no layer learns, "frozen"."""
    names = [TRAINED if found[path].any() else FROZEN for path in by_path(shapes)]
    return jax.tree.unflatten(jax.tree.structure(shapes), names)


def grouped(shapes: Any, found: Mapping[str, np.ndarray]) -> list[Group]:
    """The groups of one multiplier, highest first."""
    counts: dict[float, int] = {}
    paths: dict[float, list[str]] = {}
    for path, leaf in by_path(shapes).items():
        names = virtual(path, leaf.shape)
        size = math.prod(leaf.shape) // len(names)
        for name, value in zip(names, np.atleast_1d(found[path]), strict=True):
            key = float(value)
            counts[key] = counts.get(key, 0) + size
            paths.setdefault(key, []).append(name)
    return [
        Group(value, counts[value], tuple(paths[value])) for value in sorted(counts, reverse=True)
    ]


def table(shapes: Any, found: Mapping[str, np.ndarray], learning_rate: float) -> list[str]:
    """Lines that say each group's learning rate, size and parameters; none for one group of 1."""
    groups = grouped(shapes, found)
    if len(groups) == 1 and groups[0].multiplier == 1.0:
        return []
    lines = ["learning rates:"]
    for group in groups[:SHOWN]:
        rate = f"{group.multiplier * learning_rate:.2e}" if group.multiplier else "frozen"
        lines.append(f"  {rate:>8}  {group.count:>13,} parameters: {', '.join(_modules(group))}")
    if len(groups) > SHOWN:
        lines.append(f"  … and {len(groups) - SHOWN} groups more")
    partly = [p for p, values in found.items() if values.any() and not values.all()]
    if partly:
        lines.append(
            "  frozen in some layers only, so with optimizer state for all: "
            f"{', '.join(partly[:4])}{' …' if len(partly) > 4 else ''}"
        )
    return lines


def _modules(group: Group) -> Iterator[str]:
    """The modules of a group, a layer as a whole."""
    seen: dict[str, None] = {}
    for path in group.paths:
        parts = path.split("/")
        depth = 3 if stack_of(path) else 2
        seen["/".join(parts[:depth])] = None
    names = list(seen)
    yield from names[:4]
    if len(names) > 4:
        yield f"and {len(names) - 4} more"
