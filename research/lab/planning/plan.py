"""Plans a run for devices of other machines: whether it fits, its costs, and what would help."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from research.config import Config
from research.errors import UserError
from research.lab.planning import compiled
from research.lab.planning.chips import CHIPS, GIB, Chip
from research.lab.planning.collectives import SLICES, Collective
from research.lab.planning.compiled import Compiled
from research.models import params as parameters
from research.models.params import by_path
from research.run import flops
from research.run import run as runs
from research.run.run import Run
from research.run.synthetic import synthetic_run
from research.sharding import mesh as meshes


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run and its compiled steps. chip is None for CPU devices."""

    run: Run
    chip: Chip | None
    slices: int
    steps: list[Compiled]

    @property
    def train(self) -> Compiled:
        return self.steps[0]

    @property
    def fits(self) -> bool:
        return all(step.fits for step in self.steps)


def make(config: Config, devices: Sequence[jax.Device], chip: str, slices: int = 1) -> Plan:
    """Compiles the train step and, if it fits, the evaluation step and, for models that generate,
    a decoding step."""
    run = build(config, devices)
    return Plan(run, CHIPS.get(chip), slices, _steps(run, CHIPS.get(chip)))


def _steps(run: Run, chip: Chip | None) -> list[Compiled]:
    """A step whose peak is above the chip's memory does not fit, even where it compiles: the
    compiler for GPUs refuses none."""
    kinds = [compiled.train, compiled.evaluation]
    if any(o.pattern != "full" for o in run.objectives):
        kinds.append(compiled.decoding)
    steps: list[Compiled] = []
    for compile_step in kinds:
        step = compile_step(run)
        fits = step.fits and (chip is None or step.needed <= chip.memory)
        steps.append(dataclasses.replace(step, fits=fits))
        if not steps[0].fits:
            break
    return steps


def build(config: Config, devices: Sequence[jax.Device]) -> Run:
    """Builds the run of a config. A pre-training with new weights gets random rows. Other runs read
    their data and checkpoint, which determine the rows of a task's batches and the model shape."""
    if config.task is None and not config.init_from:
        return synthetic_run(config, devices)
    return runs.build(config, devices, quiet=True)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of a train step in a roofline model: the time of each part at its published speed.

    all_hidden: the longest part, if the others overlap with it; none_hidden: the sum of all parts.
    """

    compute: float
    memory: float
    network: float

    @property
    def all_hidden(self) -> float:
        return max(self.compute, self.memory, self.network)

    @property
    def none_hidden(self) -> float:
        return self.compute + self.memory + self.network


def estimate(plan: Plan) -> Estimate | None:
    """Estimates the train step; None if its costs or the chip are unknown."""
    costs, chip = plan.train.costs, plan.chip
    if costs is None or chip is None:
        return None
    sizes = dict(plan.run.mesh.shape) | {SLICES: plan.slices}
    network = sum(
        c.sent(sizes) / (chip.network if leaves_machine(plan, c) else chip.link)
        for c in plan.train.collectives
    )
    return Estimate(total_flops(plan) / chip.flops, costs.bytes / chip.memory_speed, network)


def leaves_machine(plan: Plan, collective: Collective) -> bool:
    """Whether a collective goes from slice to slice, or from one machine with GPUs to another."""
    mesh = plan.run.mesh
    if SLICES in collective.axes or mesh.devices.flat[0].platform != "gpu":
        return SLICES in collective.axes
    along = tuple(slice(None) if axis in collective.axes else 0 for axis in mesh.axis_names)
    return len({device.process_index for device in mesh.devices[along].flat}) > 1


def formula(run: Run) -> float:
    """Returns the FLOPs of a train step on all devices by formula (`research.run.flops`)."""
    rows = run.train.batch_rows(0)
    return flops.train_step(run.model, run.train.layout, rows, run.objectives)


def total_flops(plan: Plan) -> float:
    """Returns the FLOPs of one device in a train step: the compiler's count, plus those of fused
    attention kernels, which it cannot count, by formula."""
    run, costs = plan.run, plan.train.costs
    if not costs.kernels:
        return costs.flops
    rows = run.train.batch_rows(0)
    return costs.flops + flops.fused_attention(run.model, run.train.layout, rows) / run.mesh.size


def by_rule(run: Run) -> list[tuple[str, str, int, float]]:
    """Lists (logical axes, mesh axes, parameters, bytes per device) of params, largest first."""
    axes = parameters.logical_axes(run.model, run.heads)
    named = by_path(axes, is_leaf=lambda x: isinstance(x, tuple))
    totals: dict[tuple[str, str], list[float]] = {}
    places = by_path(run.param_shardings)
    for path, leaf in by_path(run.param_shapes).items():
        spec = tuple(places[path].spec)
        logical = ", ".join(name or "-" for name in named[path])
        placed = ", ".join(axis or "-" for axis in spec)
        entry = totals.setdefault((logical, placed), [0, 0.0])
        local = places[path].shard_shape(tuple(leaf.shape))
        entry[0] += math.prod(leaf.shape)
        entry[1] += math.prod(local) * leaf.dtype.itemsize
    lines = [(*key, int(count), size) for key, (count, size) in totals.items()]
    return sorted(lines, key=lambda line: -line[3])


def bytes_of(tree: Any) -> float:
    """Returns the bytes per device of a tree of shapes with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(tuple(x.shape))) * np.dtype(x.dtype).itemsize
        for x in jax.tree.leaves(tree)
    )


def remedies(plan: Plan, config: Config) -> list[tuple[str, Config]]:
    """Returns changes that lower the memory, as (text, config with the change): each alone and,
    last, remat and fsdp together."""
    run, changes = plan.run, []
    remat = dataclasses.replace(config.model, remat="block")
    if config.model.remat != "block":
        changes.append(("config.model.remat=block", dataclasses.replace(config, model=remat)))
    for k in _accumulations(plan, config)[:2]:
        train = dataclasses.replace(config.train, accumulation=k)
        changes.append((f"config.train.accumulation={k}", dataclasses.replace(config, train=train)))
    if run.mesh.shape["data"] > 1:
        whole = run.mesh.shape["data"] * run.mesh.shape["fsdp"]
        mesh = dataclasses.replace(config.mesh, data=1, fsdp=whole)
        text = f"config.mesh.data=1, config.mesh.fsdp={whole}"
        changes.append((text, dataclasses.replace(config, mesh=mesh)))
        if config.model.remat != "block":
            both = dataclasses.replace(config, model=remat, mesh=mesh)
            changes.append((f"config.model.remat=block, {text}", both))
    return changes


def _accumulations(plan: Plan, config: Config) -> list[int]:
    """Returns numbers of micro-batches that divide the rows, from the number on that would fit the
    chip if all memory shrank with it."""
    if config.task is not None:  # its batches count examples, not rows
        return []
    rows, multiple = plan.run.train.batch_rows(0), meshes.row_multiple(plan.run.mesh)
    over = plan.train.needed / plan.chip.memory if plan.chip and plan.steps else 1.0
    now = config.train.accumulation
    least = max(2 * now, math.ceil(now * over) if math.isfinite(over) else 0)
    return [k for k in range(least, rows // multiple + 1) if rows % (multiple * k) == 0]


def tried(plan: Plan, config: Config, devices: Sequence[jax.Device]) -> Iterator[str]:
    """Compiles the run with each remedy, and yields a line on whether it fits."""
    for text, changed in remedies(plan, config):
        try:
            steps = _steps(build(changed, devices), plan.chip)
        except UserError as error:
            yield f"  {text}: not possible: {str(error).splitlines()[0]}"
            continue
        verdict = "fits" if all(step.fits for step in steps) else "does not fit"
        yield f"  {text}: {verdict}, {max(step.needed for step in steps) / GIB:.2f} GiB"
