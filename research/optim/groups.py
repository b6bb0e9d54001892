"""Multipliers of the learning rate, by pattern and by layer.

Patterns are regular expressions, searched in virtual paths, which have a number for each layer of a
stacked parameter: "backbone/layers/07/attention/query/kernel". A multiplier of 0 freezes. A
parameter that is frozen in all its layers has no optimizer state and no gradient.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.errors import UserError, at_most, nearest
from research.models.params import by_path, map_by_path, stack_of

TRAINED, FROZEN = "trained", "frozen"
SHOWN = 100  # lines of a table: enough for a rate per layer of a large model


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that share a multiplier: their number of elements, and their virtual paths."""

    multiplier: float
    count: int
    paths: tuple[str, ...]


def virtual(path: str, shape: tuple[int, ...]) -> list[str]:
    """The virtual paths of a parameter: one per layer if it is stacked."""
    stack = stack_of(path)
    if not stack:
        return [path]
    rest = path.removeprefix(stack)
    return [f"{stack}{layer:02d}/{rest}" for layer in range(shape[0])]


def multipliers(
    shapes: Any, rates: Mapping[str, float], freeze: tuple[str, ...], layer_decay: float
) -> dict[str, np.ndarray]:
    """Path -> multiplier [layers] of a stacked parameter, [] of any other.

    Of n layers, layer i has layer_decay ** (n - i), the embeddings have layer_decay ** (n + 1), and
    everything after the layers has 1 (Howard & Ruder 2018, arXiv:1801.06146; Clark et al. 2020,
    2003.10555). The rate of the last matching pattern multiplies this.

    Raises UserError for a pattern that matches no parameter.
    """
    matches = {pattern: 0 for pattern in (*(rates or ()), *freeze)}
    leaves = by_path(shapes)
    layers = {stack_of(path): leaf.shape[0] for path, leaf in leaves.items() if stack_of(path)}
    multiplied = {}
    for path, leaf in leaves.items():
        stack, values = stack_of(path), []
        name, _, rest = path.partition("/")
        depth = layers.get(f"{name}/layers/")  # of its backbone
        for layer, virtual_path in enumerate(virtual(path, leaf.shape)):
            decay = 1.0
            if stack:
                decay = layer_decay ** (depth - layer)
            elif depth and rest.startswith("embedding/"):
                decay = layer_decay ** (depth + 1)
            factor = 1.0
            for pattern, rate in (rates or {}).items():
                if re.search(pattern, virtual_path):
                    matches[pattern] += 1
                    factor = rate
            for pattern in freeze:
                if re.search(pattern, virtual_path):
                    matches[pattern] += 1
                    factor = 0.0
            values.append(decay * factor)
        multiplied[path] = np.array(values if stack else values[0], np.float32)
    for pattern, count in matches.items():
        if not count:
            names = [name for path, leaf in leaves.items() for name in virtual(path, leaf.shape)]
            raise UserError(
                f"config.optimizer: pattern {pattern!r} matches no parameter"
                f"{nearest(pattern, names, shown=4)}"
            )
    return multiplied


def labels(shapes: Any, rates: Mapping[str, np.ndarray]) -> Any:
    """The tree of `shapes` with "trained" at each leaf, or "frozen" if all its layers are."""
    return map_by_path(lambda path, _: TRAINED if rates[path].any() else FROZEN, shapes)


def grouped(shapes: Any, rates: Mapping[str, np.ndarray]) -> list[Group]:
    """Groups parameters by multiplier, highest first."""
    groups: dict[float, Group] = {}
    for path, leaf in by_path(shapes).items():
        names = virtual(path, leaf.shape)
        for name, value in zip(names, np.atleast_1d(rates[path]).tolist(), strict=True):
            group = groups.get(value, Group(value, 0, ()))
            count = group.count + math.prod(leaf.shape) // len(names)
            groups[value] = Group(value, count, (*group.paths, name))
    return sorted(groups.values(), key=lambda group: -group.multiplier)


def table(shapes: Any, rates: Mapping[str, np.ndarray], learning_rate: float) -> list[str]:
    """Lines with each group's learning rate, size and parameters; none if all multipliers are 1."""
    groups = grouped(shapes, rates)
    if len(groups) == 1 and groups[0].multiplier == 1.0:
        return []
    lines = ["learning rates:"]
    for group in groups[:SHOWN]:
        rate = f"{group.multiplier * learning_rate:.2e}" if group.multiplier else "frozen"
        # A layer is listed once, not by its parameters.
        modules = ["/".join(p.split("/")[: 3 if stack_of(p) else 2]) for p in group.paths]
        shown = ", ".join(at_most(list(dict.fromkeys(modules)), 4))
        lines.append(f"  {rate:>8}  {group.count:>13,} parameters: {shown}")
    if len(groups) > SHOWN:
        lines.append(f"  … and {len(groups) - SHOWN} more groups")
    partly = [p for p, values in rates.items() if values.any() and not values.all()]
    if partly:
        lines.append(
            "  frozen in some layers only, so all layers have optimizer state: "
            f"{', '.join(at_most(partly, 4))}"
        )
    return lines
