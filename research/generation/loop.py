"""The decoding loop: one token after another in one jit, with a key/value cache.

If the host watches the text, the loop returns every few tokens and resumes from its state.
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
Look = Callable[[np.ndarray], np.ndarray]  # new tokens so far [B, n] -> rows to stop [B]


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
    """New tokens [B, N] of each row, greedy or sampled.

    Without `look`, the loop runs to its end in one call. With it, the host sees the new tokens
    every `every` steps: up to `every` - 1 wasted tokens behind a row's end cost less than a round
    trip to the host for each token.
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
            stop = look(np.asarray(state.generated)[:, :until])
    return np.asarray(state.generated)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which logits processors a program has, so that unused ones cost nothing."""

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
    """The values of `decoding` as inputs of a program, so that new values need no new program."""
    return {
        "repetition_penalty": np.float32(decoding.repetition_penalty),
        "temperature": np.float32(max(decoding.temperature, COLDEST)),
        "top_k": np.float32(decoding.top_k),
        "top_p": np.float32(decoding.top_p),
        "min_p": np.float32(decoding.min_p),
        "seed": np.uint32(decoding.seed),
    }


class State(NamedTuple):
    """The state that one call of the loop passes to the next.

    step: number of tokens generated. token: the last token of each row. seen: token ids in prompt
    and text; None without a penalty.
    """

    step: Int[Array, ""]
    token: Int[Array, " B"]
    done: Bool[Array, " B"]
    generated: Int[Array, "B N"]
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
    """Prefills the prompts and generates each row's first token; arguments as in `advance`."""
    rows, width = batch["tokens"].shape
    logits, cache = cached.prefill(params, model, batch, batches.positions(model, width + new))
    seen = None
    if plan.penalty:
        seen = samplers.seen_tokens(batch["tokens"], batch["lengths"], logits.shape[-1])
    empty = jnp.full((rows, new), knobs["filler"])
    state = State(jnp.int32(0), batch["lengths"], batch["done"], empty, seen, cache)
    return _placed(_write(state, _choose(logits, state, batch, knobs, plan), knobs))


@functools.partial(
    jax.jit,
    static_argnames=("model", "plan"),
    donate_argnames="state",  # else memory would hold the cache twice
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
    """Generates tokens until all rows are done or have `limit` tokens.

    Args:
        batch: the arrays of `batches.pad`; rows that are `done` in it stop.
        knobs: limit, filler, repetition_penalty, temperature, top_k, top_p, min_p, seed (scalars),
            allowed and ends [V].

    Returns:
        The state; `generated` holds the filler behind a row's end and past the limit.
    """

    def unfinished(state: State) -> Bool[Array, ""]:
        return (state.step < knobs["limit"]) & ~jnp.all(state.done)

    def generate_one(state: State) -> State:
        at = batch["lengths"] + state.step - 1  # position of the last token
        logits, cache = cached.step(params, model, state.token, at, state.cache)
        state = state._replace(cache=cache)
        return _write(state, _choose(logits, state, batch, knobs, plan), knobs)

    state = state._replace(done=state.done | batch["done"])
    return _placed(jax.lax.while_loop(unfinished, generate_one, state))


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
    """Processed logits, up to a constant per row: -inf for tokens that may not be chosen.

    The order is that of transformers' processors, and it matters: top-p, for instance, counts
    probabilities at this temperature, among the tokens that top-k has left.
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
    generated = state.generated.at[:, state.step].set(token)
    state = state._replace(step=state.step + 1, token=token, generated=generated, seen=seen)
    return state._replace(done=state.done | knobs["ends"][token])


def _placed(state: State) -> State:
    """Gives the state the same sharding in every program, so that one can follow another."""
    return state._replace(
        token=constrain(state.token, "rows"),
        done=constrain(state.done, "rows"),
        generated=constrain(state.generated, None, None),  # every process reads all rows
        seen=None if state.seen is None else constrain(state.seen, "rows", None),
        cache=transformer.Cache(
            *(constrain(a, None, "rows", "kv_heads", None, None) for a in state.cache)
        ),
    )
