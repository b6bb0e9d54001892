"""The device mesh. It always has four axes, most of them of size 1."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.errors import UserError
from research.sharding import rules as tables
from research.sharding.constrain import PLACEMENT, Placement
from research.sharding.rules import AXES


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; at most one axis is -1, which takes the remaining devices.

    Attributes:
      data: copies of the params; the rows of a batch are split between them.
      fsdp: splits params, optimizer state and rows (fully sharded data parallelism).
      context: splits the positions of a row; attention gathers the other parts' keys and values.
      tensor: splits heads, hidden units and vocabulary.
      sequence: between blocks, positions are split over "tensor" too.
      rules: changes to the table `research.sharding.rules.RULES`, logical axis -> mesh axis or
        None.
    """

    data: int = -1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1
    sequence: bool = False
    rules: Mapping[str, str | None] = ()


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axes `AXES` over `devices` (default: all), ordered by how they are connected.

    Over several slices (`slice_index` of the devices), the data axis spans slices, and fsdp does so
    where data is too small; the other axes never cross the slower network between slices. The axis
    types are Auto: `jax.make_mesh` alone gives Explicit axes, with which FSDP would need every
    weight resharded by hand.

    Raises:
        UserError: a size that is neither positive nor -1, more than one -1, or sizes that do not
            multiply to the number of devices or do not fit the slices; or if jax has no device,
            with the reason.
    """
    devices = _all_devices() if devices is None else list(devices)
    sizes = axis_sizes(config, len(devices))
    types = (AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return jax.make_mesh(sizes, AXES, types, devices=devices)
    between = _between_slices(sizes, slices)
    within = [size // count for size, count in zip(sizes, between, strict=True)]
    placed = mesh_utils.create_hybrid_device_mesh(
        within, between, devices, allow_split_physical_axes=True
    )
    return Mesh(placed, AXES, axis_types=types)


@contextlib.contextmanager
def use(mesh: Mesh, config: MeshConfig | None = None) -> Iterator[None]:
    """Traces code inside the context for `mesh`, with the sharding rules of `config`.

    config: the config of the mesh; default: the unchanged rules.
    """
    config = config or MeshConfig()
    rules = tuple(sorted(tables.table(config.rules).items()))
    device = mesh.devices.flat[0]
    capability = float(getattr(device, "compute_capability", 0))
    placement = Placement(rules, config.sequence, device.platform, capability)
    with jax.set_mesh(mesh), PLACEMENT(placement):
        yield


def check_length(config: MeshConfig, sizes: Mapping[str, int], length: int) -> None:
    """Raises UserError if the positions of a row cannot be split as the config says.

    sizes: sizes of the mesh's axes, by name.
    """
    axes = ("context", "tensor") if config.sequence else ("context",)
    parts = math.prod(sizes[axis] for axis in axes)
    if length % parts:
        written = " and ".join(f"mesh.{axis}={sizes[axis]}" for axis in axes)
        sequence = " (mesh.sequence=true)" if config.sequence else ""
        raise UserError(
            f"config.data.length={length} does not divide by {parts}, the parts of a row with "
            f"{written}{sequence}; a multiple of {parts} does"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits rows, the first dimension of every batch array, over "data" and "fsdp"."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """Puts the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def row_multiple(mesh: Mesh) -> int:
    """The number that the rows of a batch must be a multiple of: data * fsdp."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def _all_devices() -> list[jax.Device]:
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # a missing driver, a chip in use
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).splitlines() or [f"nothing answers for JAX_PLATFORMS={asked}"])[0]
        raise UserError(
            f"jax finds no device to run on: {reason:.300}\nJAX_PLATFORMS=cpu runs on the processor"
        ) from error


def axis_sizes(config: MeshConfig, count: int) -> tuple[int, ...]:
    """The sizes of `AXES` over `count` devices, -1 filled in. Raises UserError as `make_mesh`."""
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
            f"mesh ({written}): only one size may be -1, but {' and '.join(free)} are; "
            f"{_right(sizes, count)}"
        )
    if free and count % fixed == 0:
        sizes[free[0]] = count // fixed
    elif free or fixed != count:
        relation = "which does not divide" if free else "not to"
        product = f"the given sizes multiply to {fixed}, {relation}"
        raise UserError(
            f"mesh ({written}): {product} the number of devices, {count}; {_right(sizes, count)}"
        )
    return tuple(sizes[axis] for axis in AXES)


def _right(sizes: dict[str, int], count: int) -> str:
    """A mesh that fits `count` devices, as near to the requested sizes as divisors allow."""
    fits = {}
    for axis in reversed(AXES[1:]):
        fits[axis] = math.gcd(max(sizes[axis], 1), count)
        count //= fits[axis]
    fits["data"] = count
    written = ", ".join(f"{axis}={fits[axis]}" for axis in AXES)
    return f"right for {math.prod(fits.values())}: {written}"


def _between_slices(sizes: Sequence[int], slices: int) -> list[int]:
    """Parts of each axis between slices: as much of data as divides, then fsdp."""
    data = math.gcd(sizes[0], slices)
    fsdp = math.gcd(sizes[1], slices // data)
    if data * fsdp != slices:
        raise UserError(
            f"mesh.data={sizes[0]} x mesh.fsdp={sizes[1]} does not divide by the {slices} slices; "
            "between slices only these two are split"
        )
    return [data, fsdp] + [1] * (len(sizes) - 2)
