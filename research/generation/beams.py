"""Beam search: approximates the most probable continuation of a prompt with a few hypotheses.

Axes: B prompts, K beams of each, J candidates, N new tokens, V rows of the embedding table.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from research.generation import batches, cached, samplers
from research.models import transformer
from research.models.config import ModelConfig
from research.sharding.constrain import constrain


class _State(NamedTuple):
    """The live hypotheses and the ended ones, each best first.

    scores: sums of log-probabilities in nats of the live ones, -inf for an empty beam.
    ended: length-penalised scores of the ended ones, -inf for an empty place.
    """

    step: Int[Array, ""]
    scores: Float[Array, "B K"]
    generated: Int[Array, "B K N"]
    seen: Bool[Array, "B K V"] | None
    ended: Float[Array, "B K"]
    ended_generated: Int[Array, "B K N"]
    done: Bool[Array, " B"]


@functools.partial(jax.jit, static_argnames=("model", "new", "count", "ends", "penalised"))
def search(
    params: dict[str, Any],
    batch: dict[str, Array],
    knobs: dict[str, Array],
    *,
    model: ModelConfig,
    new: int,
    count: int,
    ends: int,
    penalised: bool,
) -> Int[Array, "B N"]:
    """New tokens of each prompt's best hypothesis; filler follows the token that ends it.

    A search ends as soon as `count` hypotheses have ended, or at the limit, where the live ones
    count as ended. This is `early_stopping=True` of transformers' generate (whose default continues
    while a longer text might still score higher), and fairseq's rule; with one beam it is exactly
    greedy decoding. Scores, candidates and penalty are those of transformers: each step considers
    the (1 + `ends`) * `count` best candidates, of which at most `count` end; a repetition penalty
    multiplies log-probabilities.

    Args:
        batch: the arrays of `batches.pad`.
        knobs: limit, filler, length_penalty, repetition_penalty (scalars), allowed and ends [V];
            others are not read.
        ends: number of tokens that end a text.
    """
    rows, width = batch["tokens"].shape
    logits, cache = cached.prefill(params, model, batch, batches.positions(model, width + new))
    # Each prompt is prefilled once; its beams start with copies of its cache.
    cache = jax.tree.map(lambda a: jnp.repeat(a, count, axis=1), cache)
    lengths = jnp.repeat(batch["lengths"], count)
    none = jnp.full((rows, count), -jnp.inf)
    seen = None
    if penalised:
        seen = samplers.seen_tokens(batch["tokens"], batch["lengths"], logits.shape[-1])
        seen = jnp.repeat(seen[:, None], count, axis=1)
    empty = jnp.full((rows, count, new), knobs["filler"])
    # All beams are the prompt at first, so only one of them counts: else they would stay equal.
    state = _State(jnp.int32(0), none.at[:, 0].set(0.0), empty, seen, none, empty, batch["done"])
    state, parents = _extend(state, jnp.repeat(logits[:, None], count, axis=1), knobs, ends)

    def unfinished(carry: tuple) -> Bool[Array, ""]:
        state = carry[0]
        return (state.step < knobs["limit"]) & ~jnp.all(state.done)

    def extend_by_one(carry: tuple) -> tuple:
        state, parents, cache = carry
        cache = _follow(cache, parents)
        token = jax.lax.dynamic_index_in_dim(state.generated, state.step - 1, 2, keepdims=False)
        at = lengths + state.step - 1
        logits, cache = cached.step(params, model, token.reshape(-1), at, cache)
        return *_extend(state, logits.reshape(rows, count, -1), knobs, ends), cache

    state = jax.lax.while_loop(unfinished, extend_by_one, (state, parents, cache))[0]
    return constrain(state.ended_generated[:, 0], None, None)  # every process reads all rows


def _extend(
    state: _State, logits: Float[Array, "B K V"], knobs: dict[str, Array], ends: int
) -> tuple[_State, Int[Array, "B K"]]:
    """The state with one more token in each hypothesis, and the beam that each one extends."""
    count, size = logits.shape[1:]
    gains = jax.nn.log_softmax(logits, axis=-1)
    if state.seen is not None:
        gains = samplers.penalise(gains, state.seen, knobs["repetition_penalty"])
    gains = samplers.only(gains, knobs["allowed"])
    sums = (state.scores[:, :, None] + gains).reshape(logits.shape[0], -1)
    # At most `ends` candidates of each beam end it, so at least `count` live ones remain.
    candidates = (1 + ends) * count
    sums, places = jax.lax.top_k(sums, candidates)
    parents, tokens = places // size, places % size
    generated = _pick(state.generated, parents).at[:, :, state.step].set(tokens)
    at_end = knobs["ends"][tokens]

    # Only the best `count` candidates may end, as in transformers.
    over = (at_end | (state.step + 1 == knobs["limit"])) & (jnp.arange(candidates) < count)
    over &= ~state.done[:, None]
    length = (state.step + 1).astype(jnp.float32)
    scored = jnp.where(over, sums / length ** knobs["length_penalty"], -jnp.inf)
    ended, kept = jax.lax.top_k(jnp.concatenate([state.ended, scored], axis=1), count)
    ended_generated = _pick(jnp.concatenate([state.ended_generated, generated], axis=1), kept)

    scores, kept = jax.lax.top_k(jnp.where(at_end, -jnp.inf, sums), count)
    generated, parents, tokens = (_pick(x, kept) for x in (generated, parents, tokens))
    seen = state.seen
    if seen is not None:
        new = jax.nn.one_hot(tokens, seen.shape[-1], dtype=bool)
        seen = _pick(seen, parents) | new
    full = jnp.all(jnp.isfinite(ended), axis=1)
    stuck = ~jnp.any(jnp.isfinite(scores), axis=1)
    done = state.done | full | stuck
    state = _State(state.step + 1, scores, generated, seen, ended, ended_generated, done)
    return state, parents


def _pick(x: Array, index: Int[Array, "B J"]) -> Array:
    """`x[b, index[b]]` for each prompt b."""
    return jax.vmap(lambda row, i: row[i])(x, index)


def _follow(cache: transformer.Cache, parents: Int[Array, "B K"]) -> transformer.Cache:
    """The cache of each hypothesis: a copy of the cache of its parent beam.

    It gathers within each prompt, so that rows split over a mesh stay on their devices.
    """

    def follow(a: Array) -> Array:
        split = a.reshape(a.shape[0], *parents.shape, *a.shape[2:])
        chosen = jax.vmap(lambda own, i: own[:, i], in_axes=(1, 0), out_axes=1)(split, parents)
        return constrain(chosen.reshape(a.shape), None, "rows", "kv_heads", None, None)

    return jax.tree.map(follow, cache)
