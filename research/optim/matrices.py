"""Update rules for matrices, Adafactor and Muon, on stacked parameters.

A kernel is stored with all layers in one array and with separate dimensions for heads; these rules
see it as one matrix [in, out] per layer.
"""

import math
from typing import Any

import jax
import optax
from optax import contrib

from research.models.params import by_path, map_by_path, stack_of

# Muon's update is scaled to the root mean square that AdamW's usually has, so that learning rates
# carry over (Liu et al. 2025, arXiv:2502.16982).
MUON_RMS = 0.2


def inputs_of(path: str) -> int:
    """Number of a kernel's input dimensions, which follow the axis of the layers."""
    return 2 if path.endswith("attention/output/kernel") else 1


def as_matrices(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Applies the rule to each layer separately, and to each kernel as a matrix [in, out]."""

    def view(path: str, x: jax.Array) -> jax.Array:
        lead = x.shape[:1] if stack_of(path) else ()
        rest = x.shape[len(lead) :]
        if not path.endswith("/kernel") or len(rest) < 2:
            return x.reshape(*lead, *rest)
        first = math.prod(rest[: inputs_of(path)])
        return x.reshape(*lead, first, -1)

    def each(path: str, function: Any) -> Any:
        return jax.vmap(function) if stack_of(path) else function

    def init(params: Any) -> dict[str, Any]:
        return {p: each(p, rule.init)(view(p, x)) for p, x in by_path(params).items()}

    def update(updates: Any, state: dict[str, Any], params: Any) -> tuple[Any, dict[str, Any]]:
        new = {}

        def one(path: str, u: jax.Array, param: jax.Array) -> jax.Array:
            apply = each(path, rule.update)
            matrix, new[path] = apply(view(path, u), state[path], view(path, param))
            return matrix.reshape(u.shape)

        return map_by_path(one, updates, params), new

    return optax.GradientTransformation(init, update)


def adafactor() -> optax.GradientTransformation:
    """Adafactor's direction (Shazeer & Stern 2018, arXiv:1804.04235): factored second moments,
    clipped to a root mean square of 1, no momentum. The learning rate is absolute, not relative."""
    inner = optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    return as_matrices(inner)


def muon(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """Muon's direction (Jordan et al. 2024) for the kernels of the blocks, Adam's for the rest."""

    def label(path: str, _: Any) -> str:
        return "muon" if stack_of(path) and path.endswith("/kernel") else "adam"

    def dimensions(path: str, x: Any) -> contrib.MuonDimensionNumbers:
        split = 1 + inputs_of(path)
        return contrib.MuonDimensionNumbers(tuple(range(1, split)), tuple(range(split, x.ndim)))

    def to_usual_size(path: str, u: jax.Array) -> jax.Array:
        # An orthogonal [in, out] matrix has a root mean square of 1 / sqrt(max(in, out)).
        split = 1 + inputs_of(path)
        sides = math.prod(u.shape[1:split]), math.prod(u.shape[split:])
        return u * (MUON_RMS * math.sqrt(max(sides)))

    orthogonal = contrib.scale_by_muon(
        weight_dimension_numbers=lambda params: map_by_path(dimensions, params)
    )
    resize = optax.stateless(lambda updates, _: map_by_path(to_usual_size, updates))
    rules = {
        "muon": optax.chain(orthogonal, resize),
        "adam": optax.scale_by_adam(b1, b2, epsilon),
    }
    return optax.partition(rules, lambda params: map_by_path(label, params))
