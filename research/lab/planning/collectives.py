"""Extracts the collectives of a compiled program: kind, mesh axes, count and bytes."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from research.lab.planning import hlo
from research.lab.planning.hlo import Program

SLICES = "slices"  # stands for a mesh axis in transfers between slices
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """The total of one kind of collective over some mesh axes in one execution of the program.

    count: number of collectives. bytes: of the larger side (gathered or reduced) on one device.
    """

    kind: str
    axes: tuple[str, ...]
    count: float
    bytes: float

    def sent(self, sizes: Mapping[str, int]) -> float:
        """Returns the bytes that pass each device in a ring over the axes; sizes: axis -> size."""
        n = math.prod(sizes[axis] for axis in self.axes)
        if self.kind == "collective-permute":
            return self.bytes
        share = (n - 1) / max(n, 1)
        return self.bytes * share * (2 if self.kind == "all-reduce" else 1)


def collectives(program: Program, mesh: Mesh) -> list[Collective]:
    """Returns the program's collectives by kind and axes, most bytes first.

    If the compiler spreads one collective over several fused operations, these share a channel and
    count as one.
    """
    seen: set[tuple[str, str]] = set()
    totals: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for here, instruction, times, fused in hlo.walk(program):
        between = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.rest)
        if instruction.opcode == "send" and between:
            kind = between[1].lower().replace("_", "-")
            entry = totals.setdefault((kind, (SLICES,)), [0.0, 0.0])
            entry[0] += times
            entry[1] += times * hlo.size(here.instructions[instruction.operands[0]].shape)
            continue
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        # On TPU a reduce-scatter is an all-reduce in a fusion that keeps a part of the result.
        kind = "reduce-scatter" if fused and instruction.opcode == "all-reduce" else kind
        channel = re.search(r"channel_id=(\d+)", instruction.rest)
        if channel and fused:
            if (kind, channel[1]) in seen:
                continue
            seen.add((kind, channel[1]))
        sides = [hlo.size(here.instructions[o].shape) for o in instruction.operands]
        # An asynchronous start has operand and result in one tuple.
        result = hlo.size(instruction.shape)
        result -= sum(sides) if instruction.opcode.endswith("-start") else 0
        largest = max(result, sum(sides))
        entry = totals.setdefault((kind, _axes(instruction.rest, mesh)), [0.0, 0.0])
        entry[0] += times
        entry[1] += times * largest
    all_kinds = [Collective(kind, axes, *numbers) for (kind, axes), numbers in totals.items()]
    return sorted(all_kinds, key=lambda c: -c.bytes)


def _axes(rest: str, mesh: Mesh) -> tuple[str, ...]:
    """Returns the mesh axes along which devices communicate: those in which the group of device 0
    varies, or, for a permutation, in which any source and its target differ."""
    listed = re.search(r"source_target_pairs=\{(\{[\d,{}]*\})\}", rest)
    if listed:
        pairs = [tuple(map(int, p.split(","))) for p in re.findall(r"\{(\d+,\d+)\}", listed[1])]
        ends = [np.unravel_index(end, mesh.devices.shape) for end in zip(*pairs, strict=True)]
        differ = [bool((a != b).any()) for a, b in zip(*ends, strict=True)]
    else:
        places = np.unravel_index(sorted(members(rest)), mesh.devices.shape)
        differ = [len(set(place.tolist())) > 1 for place in places]
    return tuple(axis for axis, yes in zip(mesh.axis_names, differ, strict=True) if yes)


def members(rest: str) -> set[int]:
    """Returns the group of device 0, from any of the compiler's formats of groups."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", rest)
    if listed:
        return set(map(int, listed[1].split(",")))
    tiled = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest)
    if tiled:
        order = _iota(tiled[3], tiled[4]).reshape(int(tiled[1]), int(tiled[2]))
        return set(order[(order == 0).any(1)][0].tolist())
    meshed = re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? "
        r"\{([^}]*)\}",
        rest,
    )
    if meshed:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", meshed[1]))
        shape = [int(n) for n in sizes.values()]
        order = _iota(meshed[2] or str(math.prod(shape)), meshed[3]).reshape(shape)
        at = np.argwhere(order == 0)[0]
        along = set(re.findall(r"'(\w+)'", meshed[4]))
        index = tuple(
            slice(None) if name in along else int(i) for name, i in zip(sizes, at, strict=True)
        )
        return set(order[index].ravel().tolist())
    return {0}


def _iota(dims: str, order: str | None) -> np.ndarray:
    shape = [int(n) for n in dims.split(",")]
    ids = np.arange(math.prod(shape)).reshape(shape)
    return (ids.transpose([int(n) for n in order.split(",")]) if order else ids).ravel()
