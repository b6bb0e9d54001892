"""Floating-point operations of a train step, by formula, and what the device can do, measured."""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.data.batch import Layout
from research.draws import generator
from research.models.config import ModelConfig
from research.objectives.objective import Loss, by_pattern


def forward_per_row(model: ModelConfig, layout: Layout, places: int) -> float:
    """FLOPs of one row's forward pass, a multiply-add as two.

    Matrix products of the blocks, attention scores and their product with the values over the
    whole row (a packed or causal row computes the masked half too), and the vocabulary at `places`
    positions. Embedding look-ups, norms, activations and the
    small heads are left out. After Kaplan et al. 2020 (arXiv:2001.08361), section 2.1.
    """
    m, length = model, layout.length
    projections = m.width * m.head_width * (2 * m.heads + 2 * m.key_heads)
    mlp = m.width * m.mlp_width * (3 if m.gated else 2)
    attention = 2 * length * m.heads * m.head_width
    blocks = m.layers * (projections + mlp + attention) * length
    return 2.0 * (blocks + places * m.width * m.padded_vocab)


def train_step(model: ModelConfig, layout: Layout, rows: int, objectives: Sequence[Loss]) -> float:
    """FLOPs of a train step: the backward pass counts twice the forward; remat is not counted."""
    return sum(
        3.0
        * rows
        * group[0].share
        * forward_per_row(model, layout, max(o.vocabulary_places(layout) for o in group))
        for group in by_pattern(objectives).values()
    )


def fused_attention(model: ModelConfig, layout: Layout, rows: int) -> float:
    """FLOPs of attention in a train step where the scores are never kept: two products forward,
    and five backward, of which one makes the scores again (Dao et al. 2022, arXiv:2205.14135).

    Over the whole row: what a mask spares is not taken off.
    """
    product = 2.0 * layout.length**2 * model.heads * model.head_width
    again = 2 if model.remat != "none" else 0  # the forward pass, once more
    return (7 + again) * product * model.layers * rows


def matmul_peak(dtype: str, seconds: float = 0.2) -> float:
    """FLOP/s of one device in a large square matrix product, the best of several: MFU's 100 %."""
    # Random numbers: of ones an H200 makes a sixth more products in a second.
    numbers = generator("peak").standard_normal((1024, 1024), np.float32)
    size = 1024 if jax.default_backend() == "cpu" else 8192
    a = jnp.asarray(np.tile(numbers, (size // 1024, size // 1024)), dtype)
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
