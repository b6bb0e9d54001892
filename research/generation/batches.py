"""Pads prompts into the arrays that decoding takes, of sizes that share compiled programs."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from research.errors import UserError
from research.models.attention import Pattern
from research.models.config import ModelConfig

SMALLEST_BUCKET = 16  # tokens; a smaller one would not be faster


def check_lengths(
    model: ModelConfig, prompts: Sequence[Sequence[int]], max_tokens: int, room: int
) -> None:
    """Raises UserError if prompt and new tokens do not fit, ValueError for an empty prompt."""
    if max_tokens < 1:
        raise UserError(f"max_tokens={max_tokens} must be at least 1")
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt needs at least one token, the end-of-text token")
    longest = max(map(len, prompts), default=0)
    if model.positions == "learned" and longest + room > model.max_positions:
        free = model.max_positions - longest
        right = f"at most {free} new tokens fit" if free > 0 else "shorten the prompt"
        raise UserError(
            f"{longest} prompt tokens (end-of-text token included) and {room} new tokens are "
            f"more than the model's {model.max_positions} positions; {right}"
        )


def bucket(size: int) -> int:
    """Rounds `size` up to a power of two, at least SMALLEST_BUCKET."""
    return max(SMALLEST_BUCKET, 1 << (size - 1).bit_length())


def positions(model: ModelConfig, length: int) -> int:
    """Returns `length`, at most the number of learned positions if the model has them."""
    return min(length, model.max_positions) if model.positions == "learned" else length


def allowed_rows(model: ModelConfig, allowed: Sequence[bool] | np.ndarray | None) -> np.ndarray:
    """Pads `allowed` (None: all tokens) with False to the rows of the embedding table."""
    rows = np.zeros(model.padded_vocab, bool)
    known = np.ones(model.vocab_size, bool) if allowed is None else np.asarray(allowed, bool)
    known = known[: model.vocab_size]
    rows[: len(known)] = known
    return rows


def marked(model: ModelConfig, ids: Sequence[int]) -> np.ndarray:
    """Bool per row of the embedding table: whether its token id is among `ids`."""
    return np.isin(np.arange(model.padded_vocab), ids)


def pad(
    prompts: Sequence[Sequence[int]],
    ids: Sequence[int],
    model: ModelConfig,
    multiple: int,
    pattern: Pattern = "causal",
) -> dict[str, np.ndarray]:
    """Returns tokens [B, P], padded at the right, and lengths, ids, done [B].

    P is a bucket, B a power of two times `multiple`; rows of padding are done from the start. With
    the pattern "prefix", there is also `prefix` [B], the length of the whole prompt.
    """
    parts = -(-len(prompts) // multiple)
    rows = multiple * (1 << (parts - 1).bit_length())
    width = positions(model, bucket(max(map(len, prompts))))
    batch = {
        "tokens": np.zeros((rows, width), np.int32),
        "lengths": np.ones(rows, np.int32),
        "ids": np.zeros(rows, np.uint32),
        "done": np.ones(rows, bool),
    }
    for row, (prompt, number) in enumerate(zip(prompts, ids, strict=True)):
        batch["tokens"][row, : len(prompt)] = prompt
        batch["lengths"][row] = len(prompt)
        batch["ids"][row] = number
        batch["done"][row] = False
    return batch | ({"prefix": batch["lengths"].copy()} if pattern == "prefix" else {})


def mesh_of(params: Any) -> Mesh | None:
    """The mesh that the parameters are sharded over; None for one device without a mesh."""
    sharding = getattr(jax.tree.leaves(params)[0], "sharding", None)
    return sharding.mesh if isinstance(sharding, NamedSharding) else None
