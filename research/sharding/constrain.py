"""Sharding constraints on activations, by logical axis names, inside the jitted step."""

import jax
from jax.sharding import PartitionSpec

# Activations: rows lie over both batch axes; weights' axes follow research/sharding/rules.py.
ACTIVATION_AXES: dict[str, str | tuple[str, ...] | None] = {
    "rows": ("data", "fsdp"),
    "vocab": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
}


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Constrains `x` to the mesh axes of its logical axes; without a mesh, returns `x`.

    `axes` has one name (or None: replicated) for each dimension of `x`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    spec = PartitionSpec(*(ACTIVATION_AXES[a] if a else None for a in axes))
    return jax.lax.with_sharding_constraint(x, spec)
