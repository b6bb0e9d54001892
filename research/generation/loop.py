"""The decoding loop: one token after another in one jit, with a key/value cache.

The program is cut where the host wants to look at the text, and goes on from its own state.
Axes: B rows, P positions of the longest prompt, N new tokens, V rows of the embedding table.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from research.generation import batches, cached, samplers
from research.generation.decoding import COLDEST, DecodingConfig
from research.models import transformer
from research.models.config import ModelConfig
from research.sharding.constrain import constrain

Params = dict[str, Any]
Look = Callable[[np.ndarray], np.ndarray]  # new tokens so far [B, n] -> rows that go no further


def run(
    params: Params,
    batch: dict[str, np.ndarray],
    knobs: dict[str, np.ndarray],
    model: ModelConfig,
    new: int,
    decoding: DecodingConfig,
    place: Callable[[Any], Any],
    look: Look | None,
    every: int,
) -> np.ndarray:
    """New tokens [B, N] of each row, greedy or drawn.

    Without `look` the loop runs to its end in one call. With it, the host sees what was made after
    each `every` tokens: the up to `every` - 1 tokens behind a row's end that are made in vain cost
    less than a round trip to the host for each token.
    """
    limit = int(knobs["limit"])
    knobs = knobs | numbers(decoding)
    plan = Plan.of(decoding, model)
    stop = batch["done"]
    batch = place(batch)
    state = start(params, batch, knobs, model=model, new=new, plan=plan)
    until = 0
    while until < limit and not stop.all():
        until = min(until + every, limit) if look else limit
        batch = batch | {"done": place(stop)}
        now = knobs | {"limit": np.int32(until)}
        state = advance(params, batch, now, state, model=model, plan=plan)
        if look:
            stop = look(np.asarray(state.made)[:, :until])
    return np.asarray(state.made)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which steps a program has, so that none is computed in vain."""

    greedy: bool
    penalty: bool
    top_k: bool
    top_p: bool
    min_p: bool

    @staticmethod
    def of(decoding: DecodingConfig, model: ModelConfig) -> "Plan":
        drawn = not decoding.greedy
        return Plan(
            greedy=decoding.greedy,
            penalty=decoding.repetition_penalty != 1,
            top_k=drawn and 0 < decoding.top_k < model.vocab_size,
            top_p=drawn and decoding.top_p < 1,
            min_p=drawn and decoding.min_p > 0,
        )


def numbers(decoding: DecodingConfig) -> dict[str, np.ndarray]:
    """The values of `decoding` as a program takes them: others need no new program."""
    return {
        "repetition_penalty": np.float32(decoding.repetition_penalty),
        "temperature": np.float32(max(decoding.temperature, COLDEST)),
        "top_k": np.float32(decoding.top_k),
        "top_p": np.float32(decoding.top_p),
        "min_p": np.float32(decoding.min_p),
        "seed": np.uint32(decoding.seed),
    }


class State(NamedTuple):
    """What one call of the loop hands to the next.

    step: tokens made. token: the last one of each row. seen: what prompt and text have, None
    without a penalty.
    """

    step: Int[Array, ""]
    token: Int[Array, " B"]
    done: Bool[Array, " B"]
    made: Int[Array, "B N"]
    seen: Bool[Array, "B V"] | None
    cache: transformer.Cache


@functools.partial(jax.jit, static_argnames=("model", "new", "plan"))
def start(
    params: Params,
    batch: dict[str, Array],
    knobs: dict[str, Array],
    *,
    model: ModelConfig,
    new: int,
    plan: Plan,
) -> State:
    """Reads the prompts and makes the first token of each row; arguments as in `advance`."""
    rows, width = batch["tokens"].shape
    logits, cache = cached.prefill(params, model, batch, batches.positions(model, width + new))
    seen = None
    if plan.penalty:
        seen = samplers.seen_tokens(batch["tokens"], batch["lengths"], logits.shape[-1])
    made = jnp.full((rows, new), knobs["filler"])
    state = State(jnp.int32(0), batch["lengths"], batch["done"], made, seen, cache)
    return _placed(_write(state, _choose(logits, state, batch, knobs, plan), knobs))


@functools.partial(
    jax.jit,
    static_argnames=("model", "plan"),
    donate_argnames="state",  # else the cache would be there twice
)
def advance(
    params: Params,
    batch: dict[str, Array],
    knobs: dict[str, Array],
    state: State,
    *,
    model: ModelConfig,
    plan: Plan,
) -> State:
    """Goes on until all rows are done or `limit` tokens are made.

    Args:
        batch: as `batches.pad` makes it; rows that are `done` in it go no further.
        knobs: limit, filler, repetition_penalty, temperature, top_k, top_p, min_p, seed (scalars),
            allowed and ends [V].

    Returns:
        The state; in `made`, what lies behind a row's end and past the limit is the filler.
    """

    def unfinished(state: State) -> Bool[Array, ""]:
        return (state.step < knobs["limit"]) & ~jnp.all(state.done)

    def make_one(state: State) -> State:
        at = batch["lengths"] + state.step - 1  # of the token made last
        logits, cache = cached.step(params, model, state.token, at, state.cache)
        state = state._replace(cache=cache)
        return _write(state, _choose(logits, state, batch, knobs, plan), knobs)

    state = state._replace(done=state.done | batch["done"])
    return _placed(jax.lax.while_loop(unfinished, make_one, state))


def _choose(
    logits: Float[Array, "B V"],
    state: State,
    batch: dict[str, Array],
    knobs: dict[str, Array],
    plan: Plan,
) -> Int[Array, " B"]:
    """The next token of each row."""
    logits = shaped(logits, state.seen, knobs, plan)
    if plan.greedy:
        return samplers.greedy(logits)
    position = batch["lengths"] + state.step
    return samplers.draw(logits, samplers.row_keys(knobs["seed"], batch["ids"], position))


def shaped(
    logits: Float[Array, "B V"],
    seen: Bool[Array, "B V"] | None,
    knobs: dict[str, Array],
    plan: Plan,
) -> Float[Array, "B V"]:
    """Logits to choose from, up to a constant in each row: -inf for what may not be produced.

    In the order of transformers' processors, which matters: top-p, for one, counts the
    probabilities at this temperature of what top-k has left.
    """
    logits = samplers.only(logits, knobs["allowed"])
    if plan.penalty:
        logits = samplers.penalise(logits, seen, knobs["repetition_penalty"])
    if plan.greedy:
        return logits
    logits = samplers.cool(logits, knobs["temperature"])
    if plan.top_k:
        logits = samplers.top_k(logits, knobs["top_k"])
    if plan.top_p:
        logits = samplers.top_p(logits, knobs["top_p"])
    if plan.min_p:
        logits = samplers.min_p(logits, knobs["min_p"])
    return logits


def _write(state: State, token: Int[Array, " B"], knobs: dict[str, Array]) -> State:
    """The state with one more token in each row that is not done."""
    token = jnp.where(state.done, knobs["filler"], token)
    seen = state.seen
    if seen is not None:
        seen = seen.at[jnp.arange(len(token)), token].set(True)
    made = state.made.at[:, state.step].set(token)
    done = state.done | knobs["ends"][token]
    return state._replace(step=state.step + 1, token=token, done=done, made=made, seen=seen)


def _placed(state: State) -> State:
    """The state laid out the same by every program, so that one may go on after another."""
    return state._replace(
        token=constrain(state.token, "rows"),
        done=constrain(state.done, "rows"),
        made=constrain(state.made, None, None),  # every process reads all rows
        seen=None if state.seen is None else constrain(state.seen, "rows", None),
        cache=transformer.Cache(
            *(constrain(a, None, "rows", "kv_heads", None, None) for a in state.cache)
        ),
    )
