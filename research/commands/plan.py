"""`launch.py plan`."""

from collections.abc import Iterator

from research import config as configs
from research.lab.planning import plan
from research.lab.planning import topology as machines
from research.lab.planning.chips import GIB
from research.lab.planning.collectives import SLICES
from research.lab.planning.plan import Estimate, Plan
from research.models import params as parameters
from research.optim import groups
from research.run.synthetic import STEPS
from research.sharding import rules

DOES_NOT_FIT = 3  # exit code


def run(
    config: str,
    topology: str,
    overrides: dict[str, str],
    slices: int = 1,
    price: float | None = None,
) -> int:
    """Compiles the steps for the topology and prints what they need; returns 3 if they do not fit.

    price: of a chip for an hour.
    """
    loaded = configs.load(config, overrides)
    devices = machines.devices(topology, slices)
    print(f"{config} on {f'{slices} x ' if slices > 1 else ''}{topology}", flush=True)
    compiled = plan.make(loaded, devices, topology.partition(":")[0], slices)
    for line in report(compiled, price):
        print(line)
    if compiled.fits:
        return 0
    print("\ndoes not fit; compiled with one change at a time:", flush=True)
    for line in plan.tried(compiled, loaded, devices):
        print(line, flush=True)
    return DOES_NOT_FIT


def report(compiled: Plan, price: float | None) -> Iterator[str]:
    """Yields the lines to print."""
    yield ""
    yield from _layout(compiled)
    yield ""
    yield from _memory(compiled)
    if compiled.train.costs is not None:
        yield ""
        yield from _work(compiled)
    elif compiled.train.fits:
        yield ""
        yield "the compiler cannot print this program, so its work and its time are unknown"
    estimate = plan.estimate(compiled)
    if estimate is not None:
        yield ""
        yield from _time(compiled, estimate, price)


def _layout(compiled: Plan) -> Iterator[str]:
    run = compiled.run
    count = parameters.count(run.param_shapes, run.model)
    mesh = ", ".join(f"{axis}={size}" for axis, size in run.mesh.shape.items())
    rows, length = run.train.batch_rows(0), run.config.data.length
    yield f"parameters  {count:,}"
    yield f"mesh        {mesh}"
    yield (
        f"batch       {rows:,} rows of {length:,} tokens, in {run.config.train.accumulation} parts"
        if run.config.train.accumulation > 1
        else f"batch       {rows:,} rows of {length:,} tokens"
    )
    yield f"attention   {run.attention}; computation {run.model.dtype}, remat {run.model.remat}"
    yield ""
    lines = plan.by_rule(run)
    width = max(len("logical axes"), *(len(line[0]) for line in lines))
    over = max(len("mesh axes"), *(len(line[1]) for line in lines))
    yield f"{'logical axes':<{width}}  {'mesh axes':<{over}}  {'parameters':>15}  MiB of a device"
    for logical, placed, elements, size in lines:
        yield f"{logical:<{width}}  {placed:<{over}}  {elements:>15,}  {size / 2**20:>15,.2f}"
    yield from rules.told(rules.fallbacks(run.param_shardings, run.param_shapes))
    yield from groups.table(run.param_shapes, run.rates, run.config.optimizer.learning_rate)


def _memory(compiled: Plan) -> Iterator[str]:
    state, step = compiled.run.state_shapes, compiled.train
    limit = f" of {compiled.chip.memory / GIB:.2f}" if compiled.chip else ""
    parts = {
        "params": plan.bytes_of(state.params),
        "optimizer": plan.bytes_of(state.opt_state),
    }
    yield "memory of one device, GiB"
    for name, size in parts.items():
        yield f"  {name:<28}{size / GIB:>9.3f}"
    if step.fits:
        yield f"  {'batch':<28}{(step.kept - sum(parts.values())) / GIB:>9.3f}"
        yield f"  {'gradients, activations, code':<28}{(step.needed - step.kept) / GIB:>9.3f}"
    for each in compiled.steps:
        verdict = "" if each.fits else "  DOES NOT FIT"
        yield f"  {f'peak, {each.name} step':<28}{each.needed / GIB:>9.3f}{limit}{verdict}"
    yield "compiled in " + ", ".join(f"{s.seconds:.0f} s ({s.name})" for s in compiled.steps)


def _work(compiled: Plan) -> Iterator[str]:
    run, step = compiled.run, compiled.train
    total = plan.total_flops(compiled)
    formula = plan.formula(run)
    yield "train step, one device"
    share = total * run.mesh.size / formula
    yield (
        f"  {'products':<28}{total / 1e12:>9.3f} TFLOP, {share:.3f} of the formula (3 times the "
        "model's forward pass)"
    )
    yield f"  {'HBM':<28}{step.costs.bytes / 1e9:>9.3f} GB"
    if step.costs.kernels:
        yield f"  {'attention kernels':<28}{step.costs.kernels:>9,.0f} calls"
    for each in step.collectives:
        kind = f"{each.kind} over {', '.join(each.axes)}"
        if SLICES not in each.axes and plan.leaves_machine(compiled, each):
            kind += ", network"
        yield f"  {kind:<28}{each.bytes / 1e9:>9.3f} GB in {each.count:,.0f} calls"


def _time(compiled: Plan, estimate: Estimate, price: float | None) -> Iterator[str]:
    run = compiled.run
    tokens = run.train.batch_rows(0) * run.config.data.length
    formula = plan.formula(run)
    peak = compiled.chip.flops * run.mesh.size
    low, high = estimate.all_hidden, estimate.none_hidden
    yield "estimate at published speeds (from everything overlapped to nothing overlapped)"
    yield (
        f"  products {1e3 * estimate.compute:.1f} ms, HBM {1e3 * estimate.memory:.1f} ms, network "
        f"{1e3 * estimate.network:.1f} ms"
    )
    yield f"  step      {1e3 * low:,.1f} to {1e3 * high:,.1f} ms"
    yield f"  speed     {tokens / low:,.0f} to {tokens / high:,.0f} tokens/s"
    yield f"  MFU       {formula / low / peak:.1%} to {formula / high / peak:.1%}"
    if run.train.about_epoch_batches() == STEPS and run.config.train.epochs:
        yield "  the number of steps is unknown: train.epochs of a corpus that was not read"
        return
    hours = [run.steps * seconds / 3600 for seconds in (low, high)]
    yield f"  {run.steps:,} steps  {hours[0]:,.2f} to {hours[1]:,.2f} hours"
    if price is not None:
        low_cost, high_cost = (h * run.mesh.size * price for h in hours)
        yield f"  cost      {low_cost:,.2f} to {high_cost:,.2f} at {price:g} per chip-hour"
