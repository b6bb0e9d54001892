"""Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685) of linear layers in the blocks.

An adapter adds matrices A and B of rank r to a kernel W: x W + (alpha / r) x A B.
B starts at zero, so new adapters do not change the model's outputs.
"""

import math
import re
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from research.errors import UserError, nearest
from research.models.config import ModelConfig

SUFFIX = "_lora"
# The linear layers of a block by path, with the number that each uses for its dropout key.
LAYERS = {
    "attention/query": 0,
    "attention/key": 1,
    "attention/value": 2,
    "attention/output": 3,
    "mlp/up": 4,
    "mlp/gate": 5,
    "mlp/down": 6,
}
# A run with adapters freezes all of the backbone except the adapters.
FREEZE = rf"^backbone/(?!.*{SUFFIX}/)"


def adapted(config: ModelConfig, path: str) -> bool:
    """Whether a linear layer, such as "attention/query", has an adapter."""
    return bool(config.lora_rank) and any(re.search(p, path) for p in config.lora)


def check(config: ModelConfig) -> None:
    """Raises UserError for a pattern that matches no linear layer."""
    if not config.lora_rank:
        return
    names = [n for n in LAYERS if config.gated or n != "mlp/gate"]
    for pattern in config.lora:
        if not any(re.search(pattern, name) for name in names):
            raise UserError(
                f"config.model.lora: {pattern!r} matches no layer{nearest(pattern, names)}"
            )


class Adapter(nn.Module):
    """(alpha / r) x A B; A [inputs…, r], B [r, features…]."""

    config: ModelConfig
    features: tuple[int, ...]
    axes: tuple[str, ...]  # logical axes of the adapted kernel
    contract: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        c, inputs = self.config, x.shape[-self.contract :]
        draw = nn.initializers.normal(1.0 / math.sqrt(math.prod(inputs)))
        named = nn.with_logical_partitioning
        a = self.param(
            "a", named(draw, (*self.axes[: self.contract], "rank")), (*inputs, c.lora_rank)
        )
        b = self.param(
            "b",
            named(nn.initializers.zeros, ("rank", *self.axes[self.contract :])),
            (c.lora_rank, *self.features),
        )
        down = jnp.tensordot(x, a.astype(c.dtype), self.contract)
        return jnp.tensordot(down, b.astype(c.dtype), 1) * (c.lora_alpha / c.lora_rank)


def merged(params: Any, config: ModelConfig) -> Any:
    """Merges the adapters into the kernels: W + (alpha / r) A B replaces each adapted W."""
    if not config.lora_rank:
        return params
    layers = {name: dict(module) for name, module in params["backbone"]["layers"].items()}
    for path in LAYERS:
        part, name = path.split("/")
        adapter = layers[part].pop(f"{name}{SUFFIX}", None)
        if adapter is None:
            continue
        linear = layers[part][name]
        a, b = adapter["a"], adapter["b"]
        count, rank = a.shape[0], a.shape[-1]
        product = jnp.einsum("nir,nro->nio", a.reshape(count, -1, rank), b.reshape(count, rank, -1))
        kernel = linear["kernel"]
        change = (config.lora_alpha / rank) * product.reshape(kernel.shape)
        layers[part][name] = linear | {"kernel": kernel + change}
    return params | {"backbone": params["backbone"] | {"layers": layers}}
