"""The device mesh: three axes, always there, most of them of size 1."""

import dataclasses
import math
import os
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; at most one of them -1, which takes what is left.

    data: copies of the params, rows of the batch split between them.
    fsdp: params, optimizer state and rows split (fully sharded data parallelism).
    tensor: heads, hidden units and vocabulary split.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes ("data", "fsdp", "tensor") over `devices` (default: all).

    The axis types are Auto: `jax.make_mesh` alone gives Explicit axes, where FSDP needs every
    weight resharded by hand.

    Raises:
        UserError: a size that is neither positive nor -1, more than one -1, or sizes that do not
            multiply to the number of devices; or no device at all, with the reason.
    """
    devices = _all_devices() if devices is None else list(devices)
    sizes = _sizes(config, len(devices))
    return jax.make_mesh(sizes, AXES, (AxisType.Auto,) * len(AXES), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows, the first dimension of every batch array, split over "data" and "fsdp"."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def row_multiple(mesh: Mesh) -> int:
    """The rows of a batch must be a multiple of this: data * fsdp."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def _all_devices() -> list[jax.Device]:
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # a driver that is missing, a chip in use
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).splitlines() or [f"nothing answers for JAX_PLATFORMS={asked}"])[0]
        raise UserError(
            f"jax finds no device to run on: {reason:.300}\nJAX_PLATFORMS=cpu runs on the processor"
        ) from error


def _sizes(config: MeshConfig, count: int) -> tuple[int, ...]:
    sizes = {axis: getattr(config, axis) for axis in AXES}
    written = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    for axis, size in sizes.items():
        if size < 1 and size != -1:
            raise UserError(
                f"mesh.{axis}={size}: a mesh size is a positive number of devices, or -1 for "
                "whatever is left"
            )
    free = [axis for axis in AXES if sizes[axis] == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if len(free) > 1:
        raise UserError(
            f"mesh ({written}): only one size may be -1, here {' and '.join(free)} are; "
            f"{_right(sizes, count)}"
        )
    if free and count % fixed == 0:
        sizes[free[0]] = count // fixed
    elif free or fixed != count:
        relation = "which does not divide" if free else "not to"
        what = f"the given sizes multiply to {fixed}, {relation}"
        raise UserError(
            f"mesh ({written}): {what} the number of devices, {count}; {_right(sizes, count)}"
        )
    return tuple(sizes[axis] for axis in AXES)


def _right(sizes: dict[str, int], count: int) -> str:
    """A mesh that fits `count` devices, as near to what was asked as divisors allow."""
    tensor = math.gcd(max(sizes["tensor"], 1), count)
    fsdp = math.gcd(max(sizes["fsdp"], 1), count // tensor)
    data = count // (tensor * fsdp)
    return f"right for {count}: data={data}, fsdp={fsdp}, tensor={tensor}"
