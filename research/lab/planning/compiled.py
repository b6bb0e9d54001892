"""Compiles the steps of a run ahead of time, without any device and without allocating arrays."""

import contextlib
import dataclasses
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding

from research.data.loader import Batches
from research.generation import batches, loop
from research.generation.decoding import DecodingConfig
from research.lab.planning import collectives as collecting
from research.lab.planning import hlo
from research.lab.planning.collectives import Collective
from research.lab.planning.hlo import Costs
from research.lab.planning.topology import quiet
from research.run.run import Run
from research.sharding import constrain
from research.sharding import mesh as meshes


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step; all values are per device. needed: peak bytes, even if the step does not
    fit. kept: the part of them that stays allocated between steps. costs is None if the step does
    not fit or the compiler cannot write its text."""

    name: str
    fits: bool
    seconds: float
    needed: float
    kept: float
    costs: Costs | None
    collectives: list[Collective]


# Files of a dump with the text of the final program, on TPU and on CPU.
DUMPS = ("*.after_codegen.txt", "*.cpu_after_optimizations.txt")
GREEDY = DecodingConfig()


def train(run: Run) -> Compiled:
    """Compiles the train step."""
    shapes = _first(run.train, run)
    return _compile("train", run, lambda: run.train_step.lower(run.state_shapes, shapes))


def evaluation(run: Run) -> Compiled:
    """Compiles the evaluation step."""
    shapes = _first(run.validation, run)
    return _compile("evaluate", run, lambda: run.eval_step.lower(run.state_shapes.params, shapes))


def decoding(run: Run) -> Compiled:
    """Compiles decoding with one row on each device that has its own rows: a prompt of half a row,
    then as many new tokens. Costs are those of one token of each row.
    """
    rows, half = meshes.row_multiple(run.mesh), run.config.data.length // 2
    params = run.state_shapes.params
    place = meshes.batch_sharding(run.mesh)

    def array(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding | None = None) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    prompts = {
        "tokens": array((rows, half), jnp.int32, place),
        "lengths": array((rows,), jnp.int32, place),
        "ids": array((rows,), jnp.uint32, place),
        "done": array((rows,), jnp.bool_, place),
    }
    knobs = loop.numbers(GREEDY) | {
        "limit": np.int32(half),
        "filler": np.int32(0),
        "ends": batches.marked(run.model, [0]),
        "allowed": batches.allowed_rows(run.model, None),
    }
    plan = loop.Plan.of(GREEDY, run.model)

    def lower() -> Any:
        first = jax.eval_shape(
            lambda p, b: loop.start(p, b, knobs, model=run.model, new=half, plan=plan),
            params,
            prompts,
        )
        places = {"token": ("rows",), "done": ("rows",), "generated": (None, None), "step": ()}
        placed = {
            name: array(
                getattr(first, name).shape,
                getattr(first, name).dtype,
                NamedSharding(run.mesh, constrain.spec(*axes)),
            )
            for name, axes in places.items()
        }
        stacked = NamedSharding(run.mesh, constrain.spec(None, "rows", "kv_heads", None, None))
        cache = jax.tree.map(lambda x: array(x.shape, x.dtype, stacked), first.cache)
        state = loop.State(**placed, seen=None, cache=cache)
        return loop.advance.lower(params, prompts, knobs, state, model=run.model, plan=plan)

    return _compile("decode", run, lower)


def _first(data: Batches, run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, dtypes and shardings of the first batch."""
    rows = data.batch_rows(0)
    return {
        name: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=run.batch_sharding)
        for name, x in data.batch(0, 0, 1).items()
    }


def _compile(name: str, run: Run, lower: Callable[[], Any]) -> Compiled:
    start = time.perf_counter()
    with meshes.use(run.mesh, run.config.mesh):
        lowered = lower()
        try:
            with quiet():
                executable = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            needed = out_of_memory(str(error))
            if needed is None:
                raise
            return Compiled(name, False, time.perf_counter() - start, needed, 0.0, None, [])
        seconds = time.perf_counter() - start
        memory = executable.memory_analysis()
        kept, needed = memory.argument_size_in_bytes, memory.peak_memory_in_bytes
        with quiet():
            text = _text(lowered, executable)
    if text is None:
        return Compiled(name, True, seconds, needed, kept, None, [])
    program = hlo.parse(text)
    transfers = collecting.collectives(program, run.mesh)
    return Compiled(name, True, seconds, needed, kept, hlo.costs(program), transfers)


def _text(lowered: jax.stages.Lowered, executable: jax.stages.Compiled) -> str | None:
    """Returns the compiled program's text. libtpu cannot write some of its own programs
    ("async-update instruction should have 1 operands"): they are compiled again, with a dump."""
    try:
        return executable.as_text()
    except jax.errors.JaxRuntimeError:
        with tempfile.TemporaryDirectory() as folder, _not_cached():
            lowered.compile({"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
            for pattern in DUMPS:
                for file in Path(folder).glob(pattern):
                    return file.read_text()
    return None


@contextlib.contextmanager
def _not_cached() -> Iterator[None]:
    """Disables jax's cache: a program from the cache is not compiled, so there is no dump of it."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # jax reads that value only once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def out_of_memory(message: str) -> float | None:
    """Returns the bytes that a program needs by the compiler's message; None for other errors."""
    if "RESOURCE_EXHAUSTED" not in message and "Ran out of memory" not in message:
        return None
    for pattern in (r"Used ([\d.]+)([KMGT]?) of", r"\(([\d.]+)([KMGT]?)\) exceeds"):
        match = re.search(pattern, message)
        if match:
            return float(match[1]) * 1024 ** " KMGT".index(match[2] or " ")
    return float("nan")
