"""Measures speed, compile time and memory of a config's train step on the local devices.

    python -m benchmarks.train_step --config=configs/pretrain/bert.py:size=tiny
    python -m benchmarks.train_step --config=configs/pretrain/bert.py:size=base \
        --config.train.batch_size=2048 --config.model.dtype=float32 --repeats=3

The step is the one that `launch.py train` runs: same model, optimizer, mesh, dropout and
accumulation. Its batch is on the device already, so the time excludes reading data. With
--data=synthetic (the default of pre-training; the values do not change the time) the batch has full
rows of random tokens; with --data=real, which tasks always use, it is the first batch.

Times are the median of the repeats, each of at least a second of steps. Tokens are positions of
rows, padding included. MFU follows Kaplan et al. 2020 (see research/run/flops.py): 3 x the forward
pass's matrix products, with the full square of attention scores whatever the mask, over the time
and over the FLOP/s of a large matrix product on the same devices.
"""

import dataclasses
import math
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from research import cli
from research import config as configs
from research.data.loader import device_batch
from research.errors import UserError
from research.run import flops, restore
from research.run import run as runs
from research.run.run import Run
from research.run.step import State
from research.run.synthetic import synthetic_run
from research.sharding import mesh as meshes
from research.values import Size
from research.verbs import CONFIG, Flag, Verb

VERB = Verb(
    "benchmarks.train_step:run",
    "measure speed, compile time and memory of a config's train step",
    required=CONFIG,
    optional={
        "data": Flag("synthetic (default) or real", Literal["synthetic", "real"]),
        "repeats": Flag("number of measurements (5)", Size),
    },
    overrides=True,
)
LEAST_SECONDS = 1.0  # per repeat
TRACED = 3  # steps in a profile


@dataclasses.dataclass(frozen=True)
class Measured:
    """seconds: of a step, for each repeat. memory: bytes by name."""

    compile_seconds: float
    seconds: list[float]
    memory: dict[str, int]
    peak_flops: float  # FLOP/s of a matrix product, all devices together


def run(config: str, overrides: dict[str, str], data: str = "", repeats: int = 5) -> int:
    """Measures the step and prints the report."""
    loaded = configs.load(config, overrides)
    if loaded.task is not None and data == "synthetic":
        raise UserError("--data=synthetic is for pre-training; a task's rows are its examples")
    synthetic = data == "synthetic" or (not data and loaded.task is None)
    if synthetic and loaded.init_from:
        raise UserError("--data=synthetic starts from no checkpoint; use --data=real")
    built = synthetic_run(loaded) if synthetic else runs.build(loaded)
    print(f"{config}, {'synthetic' if synthetic else 'real'} data")
    print(runs.describe(built), flush=True)
    for line in report(built, measure(built, repeats)):
        print(line)
    return 0


def measure(run: Run, repeats: int, trace: str = "") -> Measured:
    """Compiles the step and times it.

    trace: a folder for a profile of TRACED more steps; "" for none.
    """
    with meshes.use(run.mesh, run.config.mesh):
        params = restore.initial_params(run)[0]
        opt_state = jax.jit(run.optimizer.init, out_shardings=run.state_shardings.opt_state)(params)
        step = jax.device_put(jnp.zeros((), jnp.int32), run.state_shardings.step)
        state = State(step, params, opt_state)
        batch = device_batch(run.train, 0, run.batch_sharding)
        start = time.perf_counter()
        compiled = run.train_step.lower(state, batch).compile()
        compile_seconds = time.perf_counter() - start
        state, first = _steps(compiled, state, batch, 1)  # touches memory for the first time
        state, warm = _steps(compiled, state, batch, 1) if first < LEAST_SECONDS else (state, first)
        count = max(1, math.ceil(LEAST_SECONDS / warm))
        seconds = []
        for _ in range(repeats):
            state, spent = _steps(compiled, state, batch, count)
            seconds.append(spent / count)
        if trace:
            with jax.profiler.trace(trace):
                _steps(compiled, state, batch, TRACED)
    peak = flops.matmul_peak(run.model.dtype, LEAST_SECONDS) * run.mesh.size
    return Measured(compile_seconds, seconds, _memory(compiled), peak)


def _steps(compiled: Any, state: State, batch: Any, count: int) -> tuple[State, float]:
    """Runs `count` steps; returns the state and the seconds."""
    start = time.perf_counter()
    for _ in range(count):
        state, _ = compiled(state, batch)
    jax.block_until_ready(state)
    return state, time.perf_counter() - start


def _memory(compiled: Any) -> dict[str, int]:
    """Bytes of one device as the compiler planned them, and the real peak."""
    planned = compiled.memory_analysis()
    kept = planned.argument_size_in_bytes + planned.output_size_in_bytes
    sizes = {
        "arguments": planned.argument_size_in_bytes,
        "temporaries": planned.temp_size_in_bytes,
        "step": kept - planned.alias_size_in_bytes + planned.temp_size_in_bytes,
    }
    in_use = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in in_use:
        sizes["device"] = in_use["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    sizes["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return sizes


def report(run: Run, measured: Measured) -> Iterator[str]:
    """Yields the lines to print."""
    rows, layout = run.train.batch_rows(0), run.train.layout
    tokens = rows * layout.length
    operations = flops.train_step(run.model, layout, rows, run.objectives)
    step = statistics.median(measured.seconds)
    low, high = min(measured.seconds), max(measured.seconds)
    memory = {name: f"{size / 2**20:,.0f} MiB" for name, size in measured.memory.items()}
    device = jax.devices()[0]
    yield f"device        {jax.device_count()} x {device.device_kind} ({device.platform})"
    yield f"batch         {rows} rows of {layout.length} tokens, {run.model.dtype}"
    yield f"compile       {measured.compile_seconds:.1f} s, tracing included"
    yield (
        f"step          {1e3 * step:,.1f} ms (median of {len(measured.seconds)}; "
        f"{1e3 * low:,.1f} to {1e3 * high:,.1f})"
    )
    yield f"speed         {tokens / step:,.0f} tokens/s"
    reached, peak = operations / step, measured.peak_flops
    share = f"{reached / peak:.1%}" if reached <= peak else "unknown, other work slowed the peak"
    yield (
        f"MFU           {share}: {reached / 1e9:,.1f} of {peak / 1e9:,.1f} GFLOP/s, "
        "the rate of a large matrix product here"
    )
    yield (
        f"memory        step {memory['step']} per device: arguments {memory['arguments']}, "
        f"temporaries {memory['temporaries']}"
    )
    used = f", device {memory['device']}" if "device" in memory else ""
    yield f"peak          process {memory['process']}{used}"


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.train_step", VERB))
