"""Text that goes on from a prompt: decoding with a key/value cache, the whole of it in one jit.

Axes: B rows, P positions of the longest prompt, N new tokens, V rows of the embedding table.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.generation import samplers
from research.generation.samplers import Sampling
from research.models import heads, transformer
from research.models.config import ModelConfig
from research.objectives import causal_lm
from research.sharding import mesh as meshes
from research.sharding.constrain import constrain

Params = dict[str, Any]

SMALLEST_BUCKET = 16  # tokens; below it a step costs the same
ROWS = 32  # prompts decoded together


@dataclasses.dataclass(frozen=True)
class Generated:
    """What followed each prompt, in the order of the prompts.

    tokens: without the prompt, the end-of-text token and padding.
    ended: whether the end-of-text token came, or else the limit on new tokens.
    seconds: wall time of all, with compilation where the program was new.
    """

    tokens: list[list[int]]
    ended: list[bool]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all rows together, end-of-text tokens counted."""
        return (sum(map(len, self.tokens)) + sum(self.ended)) / self.seconds


def generate(
    params: Params,
    model: ModelConfig,
    prompts: Sequence[Sequence[int]],
    *,
    eos: int,
    max_tokens: int,
    sampling: Sampling,
    ids: Sequence[int] | None = None,
    allowed: Sequence[bool] | np.ndarray | None = None,
    rows: int = ROWS,
    room: int = 0,
) -> Generated:
    """Goes on from each prompt, up to the end-of-text token or `max_tokens` new ones.

    A prompt's continuation depends on nothing else in the call: a batch gives what each prompt
    alone gives (up to rounding, where two tokens tie). Programs are compiled for powers of two of
    rows, prompt tokens and new tokens.

    Args:
        params: `{"backbone", "heads"}`; on a mesh, rows are split over its data axes.
        prompts: token ids, at least one each. As in training, the first is the end-of-text token.
        eos: id of the end-of-text token.
        ids: example ids, from 0 to 2**32 - 1, that key the random draws; default: 0, 1, 2, …
        allowed: for each of the first token ids whether it may be produced; the rest may not.
            Default: all `model.vocab_size`. Rows that pad the embedding table never are.
        rows: prompts decoded together, at most (on a mesh, at least one for each part of it).
        room: make room for this many new tokens if that is more than `max_tokens`, so that calls
            with different limits share a program.

    Raises:
        UserError: a sampling value out of range, no new tokens, or more prompt and new tokens
            than the model has learned positions; before anything runs.
        ValueError: an empty prompt, or another number of ids than of prompts.
    """
    start = time.perf_counter()
    samplers.check(sampling)
    room = max(room, max_tokens)
    _check_lengths(model, prompts, max_tokens, room)
    ids = range(len(prompts)) if ids is None else ids
    if len(ids) != len(prompts):
        raise ValueError(f"{len(ids)} ids for {len(prompts)} prompts")
    mesh = _mesh_of(params)
    multiple = meshes.row_multiple(mesh) if mesh else 1
    knobs = {
        "limit": np.int32(max_tokens),
        "eos": np.int32(eos),
        "allowed": _allowed(model, allowed),
        "temperature": np.float32(max(sampling.temperature, samplers.COLDEST)),
        "top_k": np.float32(sampling.top_k),
        "top_p": np.float32(sampling.top_p),
        "seed": np.uint32(sampling.seed),
    }
    program = functools.partial(
        _decode,
        model=model,
        new=_bucket(room),
        greedy=sampling.greedy,
        few=0 < sampling.top_k < model.vocab_size and not sampling.greedy,
        nucleus=sampling.top_p < 1 and not sampling.greedy,
    )
    found: list[np.ndarray] = [np.empty(0, np.int32)] * len(prompts)
    # Prompts of like length go together, so that short ones are not padded to long ones.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    at_once = max(rows, multiple)
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
        for first in range(0, len(order), at_once):
            chosen = order[first : first + at_once]
            batch = _pad([prompts[i] for i in chosen], [ids[i] for i in chosen], model, multiple)
            if mesh:
                batch = jax.device_put(batch, meshes.batch_sharding(mesh))
            made = np.asarray(program(params, batch, knobs))
            for i, row in zip(chosen, made, strict=False):  # rows behind are padding
                found[i] = row[:max_tokens]
    ended = [bool((row == eos).any()) for row in found]
    tokens = [
        row[: int(np.argmax(row == eos))].tolist() if end else row.tolist()
        for row, end in zip(found, ended, strict=True)
    ]
    return Generated(tokens, ended, time.perf_counter() - start)


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """A text as a causal model has seen documents begin: the end-of-text token, then the text."""
    eos = tokenizer.require("eos", "generation begins and ends with it")
    return [eos, *tokenizer.encode(text).ids.tolist()]


def allowed_tokens(tokenizer: Tokenizer, special: bool = False) -> np.ndarray:
    """Bool per token id: all text and the end-of-text token; with `special`, the rest too."""
    allowed = np.ones(tokenizer.vocab_size, bool)
    if not special:
        allowed[sorted(tokenizer.special_ids - {tokenizer.eos})] = False
    return allowed


def decode_continuation(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """The text that new tokens add to a prompt's, with the space between them where one is."""
    before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *new])
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(new)


def continue_texts(
    params: Params,
    model: ModelConfig,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_tokens: int,
    sampling: Sampling,
    ids: Sequence[int] | None = None,
    special: bool = False,
    rows: int = ROWS,
) -> list[str]:
    """The continuation of each text (without the text itself); arguments as in `generate`.

    Args:
        special: special tokens other than end-of-text may be produced; they stand for no text.

    Raises:
        UserError: as `generate`; or a tokenizer that declares no end-of-text token.
    """
    prompts = [encode_prompt(tokenizer, text) for text in texts]
    made = generate(
        params,
        model,
        prompts,
        eos=tokenizer.require("eos", "generation begins and ends with it"),
        max_tokens=max_tokens,
        sampling=sampling,
        ids=ids,
        allowed=allowed_tokens(tokenizer, special),
        rows=rows,
    )
    pairs = zip(prompts, made.tokens, strict=True)
    return [decode_continuation(tokenizer, prompt, new) for prompt, new in pairs]


@functools.partial(jax.jit, static_argnames=("model", "new", "greedy", "few", "nucleus"))
def _decode(
    params: Params,
    batch: dict[str, Array],
    knobs: dict[str, Array],
    *,
    model: ModelConfig,
    new: int,
    greedy: bool,
    few: bool,
    nucleus: bool,
) -> Int[Array, "B N"]:
    """New tokens of each row; from the end-of-text token on, and past the limit, all are eos.

    Args:
        batch: tokens [B, P] padded at the right; lengths, ids, done [B].
        knobs: limit, eos, temperature, top_k, top_p, seed (scalars), allowed [V].
    """
    tokens, lengths = batch["tokens"], batch["lengths"]
    rows, width = tokens.shape
    table = heads.output_table(params, model, causal_lm.NAME)

    def choose(hidden: Float[Array, "B D"], positions: Int[Array, " B"]) -> Int[Array, " B"]:
        logits = heads.vocabulary_logits(hidden[:, None], table, None, model.vocab_size)[:, 0]
        logits = samplers.only(logits, knobs["allowed"])
        if greedy:
            return samplers.greedy(logits)
        logits = samplers.cool(logits, knobs["temperature"])
        if few:
            logits = samplers.top_k(logits, knobs["top_k"])
        if nucleus:
            logits = samplers.top_p(logits, knobs["top_p"])
        return samplers.draw(logits, samplers.row_keys(knobs["seed"], batch["ids"], positions))

    length = _positions(model, width + new)
    cache = transformer.empty_cache(model, rows, length)
    at = jnp.broadcast_to(jnp.arange(width), tokens.shape)
    hidden, cache = _forward(params, model, tokens, at, cache, visible=width)
    token = choose(transformer.gather(hidden, lengths[:, None] - 1)[:, 0], lengths)
    made = jnp.full((rows, new), knobs["eos"])

    def write(step: Array, token: Array, done: Array, made: Array) -> tuple[Array, Array, Array]:
        token = jnp.where(done, knobs["eos"], token)
        return token, done | (token == knobs["eos"]), made.at[:, step].set(token)

    def unfinished(state: tuple) -> Bool[Array, ""]:
        step, _, done, _, _ = state
        return (step < knobs["limit"]) & ~jnp.all(done)

    def make_one(state: tuple) -> tuple:
        step, token, done, made, cache = state
        at = (lengths + step - 1)[:, None]  # of the token made last
        hidden, cache = _forward(params, model, token[:, None], at, cache, visible=length)
        token = choose(hidden[:, 0], lengths + step)
        return step + 1, *write(step, token, done, made), cache

    state = (jnp.int32(1), *write(jnp.int32(0), token, batch["done"], made), cache)
    made = jax.lax.while_loop(unfinished, make_one, state)[3]
    return constrain(made, None, None)  # every process reads all rows


def _forward(
    params: Params,
    model: ModelConfig,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    cache: transformer.Cache,
    visible: int,
) -> tuple[Float[Array, "B L D"], transformer.Cache]:
    """Hidden states of tokens that go on from a cache; see `transformer.encode_cached`."""
    types = jnp.zeros_like(tokens)
    x = transformer.embed(params["backbone"], model, tokens, positions, types)
    return transformer.encode_cached(params["backbone"], model, x, positions, cache, visible)


def _check_lengths(
    model: ModelConfig, prompts: Sequence[Sequence[int]], max_tokens: int, room: int
) -> None:
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


def _bucket(size: int) -> int:
    """The power of two that `size` is padded to."""
    return max(SMALLEST_BUCKET, 1 << (size - 1).bit_length())


def _positions(model: ModelConfig, length: int) -> int:
    """`length`, or as many positions as the model has learned."""
    return min(length, model.max_positions) if model.positions == "learned" else length


def _allowed(model: ModelConfig, allowed: Sequence[bool] | np.ndarray | None) -> np.ndarray:
    """Bool [V]: `allowed`, and False behind it."""
    found = np.zeros(model.padded_vocab, bool)
    known = np.ones(model.vocab_size, bool) if allowed is None else np.asarray(allowed, bool)
    known = known[: model.vocab_size]
    found[: len(known)] = known
    return found


def _pad(
    prompts: Sequence[Sequence[int]], ids: Sequence[int], model: ModelConfig, multiple: int
) -> dict[str, np.ndarray]:
    """The batch of `_decode`: rows and positions filled up to their buckets."""
    parts = -(-len(prompts) // multiple)
    rows = multiple * (1 << (parts - 1).bit_length())
    width = _positions(model, _bucket(max(map(len, prompts))))
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
    return batch


def _mesh_of(params: Params) -> Mesh | None:
    """The mesh that the parameters live on; None for one device without a mesh."""
    sharding = getattr(jax.tree.leaves(params)[0], "sharding", None)
    return sharding.mesh if isinstance(sharding, NamedSharding) else None
