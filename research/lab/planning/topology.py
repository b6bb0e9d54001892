"""Devices of other machines for compilation: TPU slices through libtpu, GPUs through jax's CUDA
plugin, or fake CPU devices."""

import contextlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence

import jax

from research.errors import UserError, nearest
from research.lab.planning.cards import CARDS
from research.lab.planning.chips import CHIPS

EXAMPLES = "v5e:4x4, v5p:4x4x4, h100:8, h100:8x4, cpu:8"
MOST_GPUS = 8  # that NVLink connects in one machine


def devices(name: str, slices: int = 1) -> Sequence[jax.Device]:
    """Returns the devices of a topology: "v5e:4x4" (chips along each side of a slice), "h100:8x4"
    (GPUs of a machine, machines), or "cpu:8".

    Call it before anything else touches a device.

    Raises:
        UserError: the name is invalid, the compiler is missing, or there is no such slice.
    """
    kind, _, shape = name.partition(":")
    if kind not in (*CHIPS, "cpu"):
        raise UserError(
            f"--topology={name}: {kind!r} is not known{nearest(kind, (*CHIPS, 'cpu'))}; examples: "
            f"{EXAMPLES}"
        )
    sides = "{1,2}" if kind not in CARDS else "?"
    pattern = r"[1-9]\d*" if kind == "cpu" else rf"[1-9]\d*(x[1-9]\d*){sides}"
    if not re.fullmatch(pattern, shape):
        raise UserError(f"--topology={name}: {shape!r} is not a shape; examples: {EXAMPLES}")
    if kind in CHIPS and kind not in CARDS:
        return _slices(name, slices)
    if slices != 1:
        machines = f"; {slices} machines are {kind}:{shape}x{slices}" if kind in CARDS else ""
        raise UserError(f"--slices={slices}: {name} has no slices{machines}")
    if kind in CARDS:
        return _gpus(name)
    jax.config.update("jax_platforms", "cpu")
    with contextlib.suppress(RuntimeError):  # jax has its devices already
        jax.config.update("jax_num_cpu_devices", int(shape))
    if len(jax.devices()) != int(shape):
        raise UserError(
            f"--topology={name}: jax already has {len(jax.devices())} devices; unset XLA_FLAGS"
        )
    return jax.devices()


def _slices(name: str, count: int) -> Sequence[jax.Device]:
    from jax.experimental import topologies

    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={name} needs libtpu, which is not installed: `make tpu-setup` puts it "
            "into .venv-tpu, or pip install 'jax[tpu]'; --topology=cpu:N works without"
        )
    jax.config.update("jax_platforms", "cpu")  # the process itself needs no TPU
    # The first skips a query to a server that only Cloud TPU machines have; the second allows two
    # plans at a time; the others keep libtpu from looking for a machine.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    options = {"num_slices": count} if count > 1 else {}
    if any(closed := rings(name)):
        options["wrap"] = closed
    if name.startswith("v4:"):
        options["chip_config_name"] = "megacore"  # both cores of a chip are one device, as on Cloud
    try:
        with quiet():
            topology = topologies.get_topology_desc(name, platform="tpu", **options)
    except (RuntimeError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        raise UserError(f"--topology={name}: {str(error).splitlines()[0]:.300}") from error
    return topology.devices


def _gpus(name: str) -> Sequence[jax.Device]:
    from jax.experimental import topologies

    kind, _, shape = name.partition(":")
    each, _, machines = shape.partition("x")
    if int(each) > MOST_GPUS:
        raise UserError(
            f"--topology={name}: a machine has at most {MOST_GPUS} GPUs; {each} of them are "
            f"{kind}:{MOST_GPUS}x{-(-int(each) // MOST_GPUS)}"
        )
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        raise UserError(
            f"--topology={name} needs jax's CUDA plugin, which is not installed: run "
            "`make gpu-plan-setup`, which creates .venv-gpu; --topology=cpu:N needs nothing"
        )
    jax.config.update("jax_platforms", "cpu")  # the process itself needs no GPU
    try:
        with quiet():
            return topologies.get_topology_desc(
                name,
                platform="cuda",
                target_config=CARDS[kind].description(),
                topology=f"1x{machines or 1}x{each}",
            ).devices
    except (RuntimeError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        raise UserError(f"--topology={name}: {str(error).splitlines()[0]:.300}") from error


def rings(name: str) -> tuple[bool, bool, bool]:
    """Returns for each side of a slice whether its last chip is wired to the first: on v4 and v5p
    all sides, from 4x4x4 on (multiples of 4); on v5e and v6e sides of 16 chips. By default libtpu
    assumes no rings, and gathers by other, slower collectives.

    https://docs.cloud.google.com/tpu/docs/system-architecture-tpu-vm
    """
    kind, _, shape = name.partition(":")
    sides = [*map(int, shape.split("x")), 1][:3]
    if kind in ("v4", "v5p"):
        return (all(side % 4 == 0 for side in sides),) * 3
    return (sides[0] == 16, sides[1] == 16, False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the messages that libtpu writes to file descriptor 2, bypassing Python."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
