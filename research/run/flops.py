"""Floating-point operations of a train step, by formula, and a device's peak rate, measured."""

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
    """Returns the FLOPs of one row's forward pass; a multiply-add counts as two.

    Counts the matrix products of the blocks, attention scores and their product with the values
    over the whole row (a packed or causal row computes the masked half too), and the vocabulary
    projection at `places` positions. Leaves out embedding look-ups, norms, activations and the
    small heads. After Kaplan et al. 2020 (arXiv:2001.08361), section 2.1.
    """
    m, length = model, layout.length
    projections = m.width * m.head_width * (2 * m.heads + 2 * m.key_heads)
    mlp = m.width * m.mlp_width * (3 if m.gated else 2)
    attention = 2 * length * m.heads * m.head_width
    blocks = m.layers * (projections + mlp + attention) * length
    return 2.0 * (blocks + places * m.width * m.padded_vocab)


def train_step(model: ModelConfig, layout: Layout, rows: int, objectives: Sequence[Loss]) -> float:
    """Returns the FLOPs of a train step: backward counts twice forward; remat is not counted."""
    return sum(
        3.0
        * rows
        * group[0].share
        * forward_per_row(model, layout, max(o.vocabulary_places(layout) for o in group))
        for group in by_pattern(objectives).values()
    )


def fused_attention(model: ModelConfig, layout: Layout, rows: int) -> float:
    """Returns the FLOPs of attention in a train step with a kernel that never stores the scores:
    two products forward and five backward, one of which recomputes the scores (Dao et al. 2022,
    arXiv:2205.14135). Counts the whole row, including what a mask lets a kernel skip.
    """
    product = 2.0 * layout.length**2 * model.heads * model.head_width
    again = 2 if model.remat != "none" else 0  # the forward pass, once more
    return (7 + again) * product * model.layers * rows


def matmul_peak(dtype: str, seconds: float = 0.2) -> float:
    """Returns one device's FLOP/s in a large square matrix product, best of several: 100 % MFU."""
    # Random numbers: an H200 multiplies matrices of ones a sixth faster.
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
