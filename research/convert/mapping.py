"""Tensors of a public checkpoint to our parameters and back, by rules.

A rule says which tensor holds which of our parameters, and how it is laid out there. "{layer}" in
a tensor's name stands for the number of a layer; our layers are stacked along a leading axis. The
same rules are read in both directions, so what is imported and exported again is the same bits.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np

from research.errors import UserError

Shape = tuple[int, ...]
SHOWN = 8  # names in an error


class Layout(Protocol):
    """How one tensor holds one or more of our parameters, whose `shapes` are without layers."""

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        """The tensor's shape."""

    def read(self, tensor: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray]:
        """Our parameters."""

    def write(self, params: Sequence[np.ndarray]) -> np.ndarray:
        """The tensor."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """The tensor `theirs` holds our parameters `ours` (paths) in a layout."""

    theirs: str
    ours: tuple[str, ...]
    layout: Layout


@dataclasses.dataclass(frozen=True)
class Same:
    """The same numbers in the same order, the tensor flat (a bias of heads) or as ours."""

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return (math.prod(shapes[0]),)

    def read(self, tensor: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray]:
        return [tensor.reshape(shapes[0])]

    def write(self, params: Sequence[np.ndarray]) -> np.ndarray:
        return params[0].reshape(-1)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows by number: ours has `padding` rows more at the end, theirs `offset` more in front."""

    rows: int
    offset: int = 0

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return (self.rows + self.offset, *shapes[0][1:])

    def read(self, tensor: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray]:
        found = np.zeros(shapes[0], tensor.dtype)
        found[: self.rows] = tensor[self.offset :]
        return [found]

    def write(self, params: Sequence[np.ndarray]) -> np.ndarray:
        rows = params[0][: self.rows]
        return np.concatenate([np.zeros((self.offset, *rows.shape[1:]), rows.dtype), rows])


@dataclasses.dataclass(frozen=True)
class Linear:
    """Kernels that share their input, one after the other along the output.

    inputs: how many leading dimensions of ours are the input (2 after attention's heads).
    transposed: [out, in], as torch.nn.Linear; else [in, out], as GPT-2's Conv1D.
    """

    inputs: int = 1
    transposed: bool = True

    def _sizes(self, shapes: Sequence[Shape]) -> tuple[int, list[int]]:
        return math.prod(shapes[0][: self.inputs]), [math.prod(s[self.inputs :]) for s in shapes]

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        size, outputs = self._sizes(shapes)
        return (sum(outputs), size) if self.transposed else (size, sum(outputs))

    def read(self, tensor: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray]:
        kernel = tensor.T if self.transposed else tensor
        parts = np.split(kernel, np.cumsum(self._sizes(shapes)[1])[:-1], axis=1)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def write(self, params: Sequence[np.ndarray]) -> np.ndarray:
        size = math.prod(params[0].shape[: self.inputs])
        kernel = np.concatenate([p.reshape(size, -1) for p in params], axis=1)
        return np.ascontiguousarray(kernel.T if self.transposed else kernel)


@dataclasses.dataclass(frozen=True)
class Joined:
    """Biases one after the other."""

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return (sum(map(math.prod, shapes)),)

    def read(self, tensor: np.ndarray, shapes: Sequence[Shape]) -> list[np.ndarray]:
        parts = np.split(tensor, np.cumsum([math.prod(s) for s in shapes])[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def write(self, params: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([p.reshape(-1) for p in params])


def dense(
    theirs: str, ours: str | tuple[str, ...], inputs: int = 1, transposed: bool = True
) -> list[Rule]:
    """Weight and bias of one linear layer, or of several that are joined."""
    names = (ours,) if isinstance(ours, str) else ours
    kernels = tuple(f"{name}/kernel" for name in names)
    biases = tuple(f"{name}/bias" for name in names)
    return [
        Rule(f"{theirs}.weight", kernels, Linear(inputs, transposed)),
        Rule(f"{theirs}.bias", biases, Joined()),
    ]


def norm(theirs: str, ours: str) -> list[Rule]:
    """Scale and bias of a norm."""
    return [
        Rule(f"{theirs}.weight", (f"{ours}/scale",), Same()),
        Rule(f"{theirs}.bias", (f"{ours}/bias",), Same()),
    ]


def active(rules: Iterable[Rule], shapes: Mapping[str, Any]) -> list[Rule]:
    """The rules whose parameters the model has.

    Raises ValueError where a parameter has no rule: then a family's table is incomplete.
    """
    found = [rule for rule in rules if all(path in shapes for path in rule.ours)]
    without = shapes.keys() - {path for rule in found for path in rule.ours}
    if without:
        raise ValueError(f"no rule for {', '.join(sorted(without))}")
    return found


def names(rule: Rule, layers: int, skip: Callable[[str, int], bool]) -> list[str]:
    """The tensors of a rule, one for each layer where it has layers.

    skip: (path of ours, layer) -> whether the family has no such tensor in that layer.
    """
    if "{layer}" not in rule.theirs:
        return [rule.theirs]
    return [
        rule.theirs.format(layer=layer) if not skip(rule.ours[0], layer) else ""
        for layer in range(layers)
    ]


def match(
    tensors: Mapping[str, Callable[[], np.ndarray]],
    rules: Sequence[Rule],
    layers: int,
    skip: Callable[[str, int], bool],
    ignored: Sequence[str],
    copies: Mapping[str, str],
    elsewhere: Collection[str],
    where: str,
) -> list[str]:
    """The tensors that no rule reads and that are known from `elsewhere`, in order.

    Args:
        tensors: name -> a function that reads it.
        rules: those of `active`.
        ignored: patterns of tensors that hold nothing that is learnt.
        copies: tensors that may be there, and what each has to be the same as.
        elsewhere: tensors that the architecture has with other heads.
        where: what to call the checkpoint in an error.

    Raises UserError naming every tensor that is missing or not known, and a copy that is not one.
    """
    expected = {name for rule in rules for name in names(rule, layers, skip) if name}
    missing = sorted(expected - tensors.keys())
    if missing:
        raise UserError(f"{where} lacks {listed(missing)}")
    others = sorted(
        name
        for name in tensors.keys() - expected
        if not any(fnmatchcase(name, pattern) for pattern in ignored)
    )
    unknown = [name for name in others if name not in copies and name not in elsewhere]
    if unknown:
        raise UserError(f"{where} has tensors that this architecture does not: {listed(unknown)}")
    for name in others:
        other = copies.get(name)
        if other in tensors and not np.array_equal(tensors[name](), tensors[other]()):
            raise UserError(
                f"{where}: {name} is not the same as {other}; in this architecture they are one"
            )
    return [name for name in others if name not in copies]


def read(
    tensors: Mapping[str, Callable[[], np.ndarray]],
    rules: Sequence[Rule],
    shapes: Mapping[str, Any],
    layers: int,
    skip: Callable[[str, int], bool],
    where: str,
) -> dict[str, np.ndarray]:
    """Our parameters by path, float32, from tensors by name, as `match` takes them.

    shapes: our parameters' shapes by path.

    Raises UserError naming a tensor of another shape.
    """
    found: dict[str, np.ndarray] = {}
    for rule in rules:
        stacked = "{layer}" in rule.theirs
        ours = [tuple(shapes[path].shape) for path in rule.ours]
        inner = [shape[1:] for shape in ours] if stacked else ours
        columns = []
        for name in names(rule, layers, skip):
            if not name:  # the stack has a place for it, which nothing reads
                columns.append([_unused(path, s) for path, s in zip(rule.ours, inner, strict=True)])
                continue
            tensor = tensors[name]()
            if tensor.shape != rule.layout.shape(inner):
                wanted = list(rule.layout.shape(inner))
                raise UserError(
                    f"{where}: {name} has shape {list(tensor.shape)}, expected {wanted} by its "
                    "config"
                )
            columns.append(rule.layout.read(tensor.astype(np.float32), inner))
        for path, parts in zip(rule.ours, zip(*columns, strict=True), strict=True):
            found[path] = np.stack(parts) if stacked else parts[0]
    return found


def _unused(path: str, shape: Shape) -> np.ndarray:
    return (np.ones if path.endswith("/scale") else np.zeros)(shape, np.float32)


def write(
    params: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    layers: int,
    skip: Callable[[str, int], bool],
) -> dict[str, np.ndarray]:
    """Tensors by name from our parameters by path."""
    found: dict[str, np.ndarray] = {}
    for rule in rules:
        arrays = [params[path] for path in rule.ours]
        if "{layer}" not in rule.theirs:
            found[rule.theirs] = rule.layout.write(arrays)
            continue
        for layer, name in enumerate(names(rule, layers, skip)):
            if name:
                found[name] = rule.layout.write([array[layer] for array in arrays])
    return found


def listed(found: Sequence[str]) -> str:
    """The first names of a list, and how many there are more."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more
