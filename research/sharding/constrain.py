"""Sharding of activations inside the jitted step, by logical axis names."""

import dataclasses
import math

import jax
from jax.sharding import PartitionSpec

from research.sharding.rules import RULES

POSITIONS = ("length", "stream")
Target = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Placement:
    """What a traced function knows about the devices besides the axes of the mesh.

    rules: (logical axis, mesh axis) of weights.
    sequence: whether the length is also split over "tensor" between blocks (Korthikanti et al.
        2022, arXiv:2205.05198), so that norms and residuals are computed and kept once.
    platform: of the devices that the program is compiled for.
    capability: CUDA compute capability of a GPU, 0 of other devices.
    """

    rules: tuple[tuple[str, str | None], ...] = tuple(RULES.items())
    sequence: bool = False
    platform: str = "cpu"
    capability: float = 0.0

    def target(self, axis: str) -> Target:
        """The mesh axes of a logical axis of activations.

        "rows" are those of the batch; "length" is the positions of a row within a block; "stream"
        is the positions between blocks. Other names are axes of weights; they split over "tensor".
        """
        if axis == "rows":
            return ("data", "fsdp")
        if axis == "length":
            return "context"
        if axis == "stream":
            return ("context", "tensor") if self.sequence else "context"
        return "tensor" if dict(self.rules)[axis] == "tensor" else None


# Part of jit's cache key, like the mesh; `research.sharding.mesh.use` sets both.
PLACEMENT = jax.make_user_context(Placement())


def spec(*axes: str | None) -> PartitionSpec:
    """The PartitionSpec of logical axes, one name (or None: not split) per dimension."""
    placement = PLACEMENT.value
    return PartitionSpec(*(placement.target(a) if a else None for a in axes))


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Constrains `x` to the mesh axes of its logical axes; without a mesh, returns `x`.

    `axes` has one name (or None: not split) per dimension of `x`. Positions that do not divide,
    such as the single one of a decoding step, are not split.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    whole = [a in POSITIONS and n % parts(a) for a, n in zip(axes, x.shape, strict=True)]
    fitting = (None if no else a for a, no in zip(axes, whole, strict=True))
    return jax.lax.with_sharding_constraint(x, spec(*fitting))


def parts(axis: str) -> int:
    """Number of parts that a logical axis is split into."""
    target = PLACEMENT.value.target(axis)
    names = (target,) if isinstance(target, str) else target or ()
    return math.prod(axis_size(name) for name in names)


def axis_size(axis: str) -> int:
    """Number of devices along a mesh axis; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape[axis]
