"""Continues prompts: batches them, runs a decoding program on each batch, returns tokens or texts.

The programs are in `loop` (greedy and sampled) and `beams`. Axes: B rows, N new tokens.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from research.data.tokenizer import Tokenizer
from research.generation import batches, beams, loop, stopping
from research.generation import decoding as decodings
from research.generation.decoding import DecodingConfig
from research.models.attention import Pattern
from research.models.config import ModelConfig
from research.sharding import mesh as meshes

Params = dict[str, Any]
Watch = Callable[[int, list[int]], bool]

ROWS = 32  # rows decoded together; each beam of a prompt is a row
EVERY = 16  # new tokens between two calls of a watch


@dataclasses.dataclass(frozen=True)
class Generated:
    """The continuation of each prompt, in the order of the prompts.

    tokens: new tokens, without the prompt, the token that ends the text, and padding.
    ended: whether such a token or a watch ended the text; False: the limit did.
    seconds: wall time of the whole call, including compilation of new programs.
    """

    tokens: list[list[int]]
    ended: list[bool]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens per second of all rows together, including end-of-text tokens."""
        return (sum(map(len, self.tokens)) + sum(self.ended)) / self.seconds


def generate(
    params: Params,
    model: ModelConfig,
    prompts: Sequence[Sequence[int]],
    *,
    ends: Sequence[int],
    max_tokens: int,
    decoding: DecodingConfig,
    pattern: Pattern = "causal",
    ids: Sequence[int] | None = None,
    allowed: Sequence[bool] | np.ndarray | None = None,
    rows: int = ROWS,
    room: int = 0,
    watch: Watch | None = None,
    every: int = EVERY,
) -> Generated:
    """Continues each prompt until a token ends the text, or for `max_tokens` tokens.

    A prompt's continuation does not depend on the other prompts: a batch gives the same tokens as
    each prompt alone (up to rounding, if two tokens tie). Programs are compiled for powers of two
    of rows, prompt tokens and new tokens.

    Args:
        params: `{"backbone", "heads"}`; on a mesh, rows are split over its data axes.
        prompts: token ids, at least one each. As in training, they start with `Tokenizer.begin`.
        ends: ids of the tokens that end a text, at least one (`Tokenizer.ends`).
        decoding: how tokens are chosen; `stop` only matters in `continue_texts`.
        pattern: the model's attention; with "prefix", prompts see themselves in both directions.
        ids: example ids, from 0 to 2**32 - 1, that key the random draws; default: 0, 1, 2, …
        allowed: for each of the first token ids, whether it may be generated; other ids may not.
            Default: all `model.vocab_size` ids. Rows that pad the embedding table never may.
        rows: most rows decoded together (on a mesh, at least one per part); each beam is a row.
        room: make room for this many new tokens if that is more than `max_tokens`, so that calls
            with different limits share a program.
        watch: called with a prompt's index and its new tokens so far, after every `every` tokens
            and at their end; the row stops if it returns True. Not for a beam search, which has no
            single text before the end.

    Raises:
        UserError: a value of `decoding` out of range, beams with sampling, no new tokens, or more
            prompt and new tokens than the model has learned positions; before anything runs.
        ValueError: an empty prompt, a wrong number of ids, or a watch with beams.
    """
    start = time.perf_counter()
    decodings.check(decoding)
    if decoding.searches and watch is not None:
        raise ValueError("a beam search cannot be watched")
    room = max(room, max_tokens)
    batches.check_lengths(model, prompts, max_tokens, room)
    ids = range(len(prompts)) if ids is None else ids
    if len(ids) != len(prompts):
        raise ValueError(f"{len(ids)} ids for {len(prompts)} prompts")
    mesh = batches.mesh_of(params)
    multiple = meshes.row_multiple(mesh) if mesh else 1
    knobs = {
        "limit": np.int32(max_tokens),
        "filler": np.int32(ends[0]),
        "ends": batches.marked(model, ends),
        "allowed": batches.allowed_rows(model, allowed),
    }
    new = batches.bucket(room)

    def place(arrays: Any) -> Any:
        return jax.device_put(arrays, meshes.batch_sharding(mesh)) if mesh else arrays

    def decode(batch: dict[str, np.ndarray], chosen: Sequence[int]) -> np.ndarray:
        if decoding.searches:
            penalties = {
                "length_penalty": np.float32(decoding.length_penalty),
                "repetition_penalty": np.float32(decoding.repetition_penalty),
            }
            best = beams.search(
                params,
                place(batch),
                knobs | penalties,
                model=model,
                new=new,
                count=decoding.beams,
                ends=len(set(ends)),
                penalised=decoding.repetition_penalty != 1,
            )
            return np.asarray(best)
        look = _look(watch, chosen, ends) if watch else None
        return loop.run(params, batch, knobs, model, new, decoding, place, look, every)

    new_rows: list[np.ndarray] = [np.empty(0, np.int32)] * len(prompts)
    # Prompts of similar length go together, so that short ones are not padded to long ones.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    at_once = max(rows // decoding.beams, multiple)
    with meshes.use(mesh) if mesh else contextlib.nullcontext():
        for first in range(0, len(order), at_once):
            chosen = order[first : first + at_once]
            texts, keys = [prompts[i] for i in chosen], [ids[i] for i in chosen]
            batch = batches.pad(texts, keys, model, multiple, pattern)
            decoded = decode(batch, chosen)
            for i, row in zip(chosen, decoded, strict=False):  # the remaining rows are padding
                new_rows[i] = row[:max_tokens]
    ended = [bool(np.isin(row, ends).any()) for row in new_rows]
    tokens = [_before(row, ends) for row in new_rows]
    return Generated(tokens, ended, time.perf_counter() - start)


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encodes a prompt as documents start in causal training: `Tokenizer.begin`, then the text."""
    tokenizer.require("eos", "generation ends with it")
    begin = tokenizer.begin("generation begins with it")
    return [*begin, *tokenizer.encode(text).ids.tolist()]


def allowed_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """Bool per token id: True for all tokens of text and the tokens that end a text."""
    allowed = np.ones(tokenizer.vocab_size, bool)
    allowed[sorted(tokenizer.special_ids.difference(tokenizer.ends))] = False
    return allowed


def decode_continuation(tokenizer: Tokenizer, prompt: Sequence[int], new: Sequence[int]) -> str:
    """The text that new tokens add to a prompt's text, including a space between them."""
    before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *new])
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(new)


def stopping_watch(
    tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], stop: Sequence[str]
) -> Watch:
    """A watch that ends a row once its new text contains a stop string."""

    def ends(i: int, new: list[int]) -> bool:
        text = decode_continuation(tokenizer, prompts[i], new)
        return any(s in text for s in stop)

    return ends


def continue_texts(
    params: Params,
    model: ModelConfig,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_tokens: int,
    decoding: DecodingConfig,
    pattern: Pattern = "causal",
    ids: Sequence[int] | None = None,
) -> list[str]:
    """Continues each text and returns the new texts alone; arguments as in `generate`.

    Args:
        decoding: with `stop`, decoding ends once all rows contain a stop string or have ended. A
            beam search runs to its own end; then the best text is cut.

    Raises UserError as `generate` does, and for a tokenizer without an end-of-text token.
    """
    prompts = [encode_prompt(tokenizer, text) for text in texts]
    stop, watch = decoding.stop, None
    if stop and not decoding.searches:
        watch = stopping_watch(tokenizer, prompts, stop)
    generated = generate(
        params,
        model,
        prompts,
        ends=tokenizer.ends,
        max_tokens=max_tokens,
        decoding=decoding,
        pattern=pattern,
        ids=ids,
        allowed=allowed_tokens(tokenizer),
        watch=watch,
    )
    pairs = zip(prompts, generated.tokens, strict=True)
    continued = (decode_continuation(tokenizer, prompt, new) for prompt, new in pairs)
    return [stopping.cut(text, stop) for text in continued]


def _before(row: np.ndarray, ends: Sequence[int]) -> list[int]:
    """The tokens before the first one that ends a text."""
    places = np.flatnonzero(np.isin(row, ends))
    return row[: places[0] if places.size else len(row)].tolist()


def _look(watch: Watch, chosen: Sequence[int], ends: Sequence[int]) -> loop.Look:
    """Calls the watch for the live rows of a batch, whose prompts are `chosen`."""
    over: set[int] = set()

    def look(tokens: np.ndarray) -> np.ndarray:
        for row, i in enumerate(chosen):
            if row in over:
                continue
            if watch(i, _before(tokens[row], ends)) or np.isin(tokens[row], ends).any():
                over.add(row)
        return np.array([row in over or row >= len(chosen) for row in range(len(tokens))])

    return look
