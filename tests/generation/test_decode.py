"""Decoding with a cache is the full forward pass, whatever else is in the batch."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from research.errors import UserError
from research.generation import decode, loop
from research.generation.decoding import DecodingConfig
from research.models import heads, transformer
from research.models import params as parameters
from research.models.config import ModelConfig
from research.sharding import mesh as meshes
from research.sharding import rules
from research.sharding.mesh import MeshConfig
from tests import helpers

# Most tests share these shapes, and so their programs: compiling is what takes time here.
GPT = helpers.gpt(max_positions=21, initializer_range=0.4)  # no power of two
LLAMA = dataclasses.replace(
    GPT,
    positions="rope",
    heads=4,
    kv_heads=2,
    norm="rmsnorm",
    activation="silu",
    gated=True,
    bias=False,
    tied_embeddings=False,
)
POST = dataclasses.replace(GPT, norm_place="post", embedding_norm=True, token_types=2)
ALIBI = dataclasses.replace(LLAMA, positions="alibi")
VOCAB = GPT.vocab_size
EOS, NEVER = 1, 0  # NEVER is given as the end of text where none may come
GREEDY = DecodingConfig(temperature=0.0)
PENALISED = DecodingConfig(temperature=0.0, repetition_penalty=2.0)
SAMPLED = DecodingConfig(temperature=1.3, top_k=100, top_p=0.95, seed=5)
PROMPTS = [[1, 7, 9], [1, 4], [1, 30, 31, 32, 33, 34, 35, 36, 37, 38], [1, 2, 3, 5, 8, 13]]


@functools.cache
def new_params(model: ModelConfig) -> Any:
    head = {} if model.tied_embeddings else {"causal_lm": heads.OutputTable(model)}
    return jax.jit(lambda key: parameters.init(key, model, head))(jax.random.key(0))


def to_logits(params: Any, model: ModelConfig, hidden: Array) -> Array:
    table = heads.output_table(params, model, "causal_lm")
    return heads.vocabulary_logits(hidden, table, None, model.vocab_size)


def full_logits(params: Any, model: ModelConfig, tokens: Array, prefix: int = 0) -> Array:
    """[B, L, V], by the forward pass of training; the first `prefix` tokens see each other."""
    batch = {
        "tokens": tokens,
        "segments": jnp.ones_like(tokens),
        "positions": jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape),
        "token_types": jnp.zeros_like(tokens),
        "prefix": jnp.broadcast_to(jnp.arange(tokens.shape[1]) < prefix, tokens.shape),
    }
    pattern = "prefix" if prefix else "causal"
    hidden = transformer.apply(params["backbone"], model, batch, pattern)
    return to_logits(params, model, hidden)


def generate(
    model: ModelConfig, prompts: Any = PROMPTS, decoding: DecodingConfig = GREEDY, **changes: Any
) -> decode.Generated:
    params = changes.pop("params", None) or new_params(model)
    given = {"ends": [EOS], "max_tokens": 9} | changes
    return decode.generate(params, model, prompts, decoding=decoding, **given)


@pytest.mark.parametrize(
    "model", [GPT, LLAMA, POST, ALIBI], ids=["learned", "rope_grouped", "post_norm", "alibi"]
)
def test_cached_logits_are_those_of_the_full_pass(model):
    lengths, width, length = jnp.array([3, 8, 5]), 8, 14

    def forward(params, tokens, positions, cache, visible):
        backbone = params["backbone"]
        hidden, cache = transformer.apply_cached(backbone, model, tokens, positions, cache, visible)
        return to_logits(params, model, hidden), cache

    @jax.jit
    def both(params: Any, rows: Array) -> tuple[Array, Array, Array]:
        """Logits of the full pass, of the prompts, and of six steps after them."""
        at = jnp.broadcast_to(jnp.arange(width), (3, width))
        padded = jnp.where(at < lengths[:, None], rows[:, :width], 0)
        cache = transformer.empty_cache(model, 3, length)
        prompt, cache = forward(params, padded, at, cache, width)

        def step(cache: transformer.Cache, more: Array) -> tuple[transformer.Cache, Array]:
            at = (lengths + more)[:, None]  # each row goes on over what its padding left
            tokens = jnp.take_along_axis(rows, at, axis=1)
            logits, cache = forward(params, tokens, at, cache, length)
            return cache, logits[:, 0]

        steps = jax.lax.scan(step, cache, jnp.arange(6))[1]
        return full_logits(params, model, rows), prompt, steps

    rows = np.random.default_rng(0).integers(0, VOCAB, (3, length))
    expected, prompt, steps = (np.asarray(x) for x in both(new_params(model), rows))
    assert np.abs(expected[..., :VOCAB]).max() > 1
    for row, size in enumerate(lengths):
        np.testing.assert_allclose(prompt[row, :size], expected[row, :size], atol=1e-4)
        np.testing.assert_allclose(steps[:, row], expected[row, size : size + 6], atol=1e-4)


def test_greedy_takes_the_most_probable_token_of_the_full_pass():
    prompt, length = list(range(16)), 32  # full buckets; rotary positions know no end
    made = generate(LLAMA, [prompt], ends=[NEVER], allowed=np.arange(VOCAB) > 0, max_tokens=16)
    full = jax.jit(lambda tokens: full_logits(new_params(LLAMA), LLAMA, tokens))
    known = list(prompt)
    while len(known) < length:
        logits = full(np.array([known + [0] * (length - len(known))]))[0, len(known) - 1, 1:]
        known.append(1 + int(np.argmax(logits)))
    assert made.tokens == [known[16:]]
    assert made.ended == [False]


@pytest.mark.parametrize("searches", [False, True], ids=["greedy", "beam"])
def test_a_prompt_as_a_prefix_is_read_in_both_directions(searches, monkeypatch):
    monkeypatch.setattr(DecodingConfig, "searches", searches)  # with one beam, in the same way
    given = {"ends": [NEVER], "allowed": np.arange(VOCAB) != NEVER, "max_tokens": 4}
    made = generate(GPT, PROMPTS, pattern="prefix", **given)
    assert made.tokens != generate(GPT, PROMPTS, **given).tokens
    for prompt, new in zip(PROMPTS, made.tokens, strict=True):
        padded = np.array([prompt + new + [0] * (21 - len(prompt) - len(new))])
        logits = np.array(full_logits(new_params(GPT), GPT, padded, len(prompt)))[0]
        for at, token in enumerate(new, start=len(prompt) - 1):
            assert token == 1 + logits[at, 1:VOCAB].argmax()


def test_a_penalty_counts_the_prompt_and_the_text_of_the_full_pass():
    full = jax.jit(lambda tokens: full_logits(new_params(GPT), GPT, tokens))
    given = {"ends": [NEVER], "allowed": np.arange(VOCAB) != NEVER}
    plain, made = generate(GPT, **given), generate(GPT, PROMPTS, PENALISED, **given)
    for prompt, new, other in zip(PROMPTS, made.tokens, plain.tokens, strict=True):
        known = list(prompt)
        for _ in range(9):
            padded = np.array([known + [0] * (21 - len(known))])
            logits = np.array(full(padded)[0, len(known) - 1, :VOCAB])
            logits[NEVER] = -np.inf
            for token in set(known):
                logits[token] *= 2.0 if logits[token] < 0 else 0.5
            known.append(int(np.argmax(logits)))
        assert new == known[len(prompt) :] != other


@pytest.mark.parametrize(
    "sampling", [GREEDY, SAMPLED, PENALISED], ids=["greedy", "sampled", "penalised"]
)
def test_a_batch_is_each_prompt_alone(sampling):
    ids = [11, 12, 13, 14]
    together = generate(GPT, decoding=sampling, ids=ids)
    assert len({tuple(t) for t in together.tokens}) == 4
    for i, prompt in enumerate(PROMPTS):
        alone = generate(GPT, [prompt], sampling, ids=[ids[i]])
        assert (alone.tokens, alone.ended) == ([together.tokens[i]], [together.ended[i]])
    split = generate(GPT, PROMPTS[::-1], sampling, ids=ids[::-1], rows=3)
    assert split.tokens == together.tokens[::-1]


def test_draws_depend_on_seed_and_id():
    ids = [3, 4, 5, 3]
    first = generate(GPT, [[1, 7]] * 4, SAMPLED, ids=ids).tokens
    assert first[0] == first[3] and len({tuple(t) for t in first}) == 3
    other = dataclasses.replace(SAMPLED, seed=6)
    assert generate(GPT, [[1, 7]] * 4, other, ids=ids).tokens[0] != first[0]


def test_one_program_for_a_bucket():
    generate(GPT, PROMPTS[:3], SAMPLED)
    programs = loop.advance._cache_size()
    assert programs > 0
    other = DecodingConfig(2.0, top_k=7, top_p=0.5, seed=9)
    generate(GPT, PROMPTS, other, max_tokens=11, ends=[2], ids=[5, 6, 7, 8])
    generate(GPT, PROMPTS, SAMPLED, max_tokens=1, room=11)
    assert loop.advance._cache_size() == programs


def test_going_on_in_two_calls_to_the_last_position_is_one_call():
    whole = generate(GPT, PROMPTS[2:3], SAMPLED, max_tokens=11, ends=[NEVER]).tokens[0]
    part = generate(GPT, [PROMPTS[2] + whole[:5]], SAMPLED, max_tokens=6, ends=[NEVER]).tokens[0]
    assert len(PROMPTS[2] + whole) == GPT.max_positions and part == whole[5:]


def test_stops_at_the_end_of_text():
    free = generate(GPT, ends=[NEVER]).tokens
    stop = free[0][4]
    made = generate(GPT, ends=[stop])
    expected = [row[: row.index(stop)] if stop in row else row for row in free]
    assert made.tokens == expected and made.ended == [stop in row for row in free]
    assert made.ended[0] and not all(made.ended)


def test_any_of_several_tokens_ends_a_text():
    free = generate(GPT, ends=[NEVER]).tokens
    stops = [free[0][4], free[1][6]]
    made = generate(GPT, ends=stops)
    first = [min((row.index(s) for s in stops if s in row), default=len(row)) for row in free]
    assert made.tokens == [row[:at] for row, at in zip(free, first, strict=True)]
    assert made.tokens[0] != generate(GPT, ends=stops[1:]).tokens[0]
    assert made.tokens[1] != generate(GPT, ends=stops[:1]).tokens[1]


def test_the_end_of_a_turn_ends_a_text_and_may_be_made():
    tokenizer = helpers.byte_pairs()
    tuned = tokenizer.with_tokens(["<|im_start|>", "<|im_end|>"])
    assert tokenizer.ends == (tokenizer.eos,)
    assert tuned.ends == (tuned.eos, tuned.vocab_size - 1)
    assert decode.allowed_tokens(tuned)[-2:].tolist() == [False, True]


@pytest.mark.parametrize("sampling", [PENALISED, SAMPLED], ids=["penalised", "sampled"])
@pytest.mark.parametrize("every", [1, 4])
def test_looking_on_changes_nothing(sampling, every):
    told: dict[int, list[list[int]]] = {i: [] for i in range(4)}
    stop = generate(GPT, PROMPTS, sampling, ends=[NEVER]).tokens[1][5]
    made = generate(GPT, PROMPTS, sampling, ends=[stop])
    watch = lambda i, new: told[i].append(new)  # noqa: E731
    watched = generate(GPT, PROMPTS, sampling, ends=[stop], watch=watch, every=every)
    assert (watched.tokens, watched.ended) == (made.tokens, made.ended)
    for i, tokens in enumerate(made.tokens):
        over = len(tokens) + made.ended[i]
        sizes = [min(n, len(tokens)) for n in range(every, over + every, every)]
        assert told[i] == [tokens[:size] for size in sizes]


def test_a_row_ends_where_its_watch_says():
    free = generate(GPT, ends=[NEVER]).tokens
    looks: list[int] = []

    def watch(i: int, new: list[int]) -> bool:
        looks.append(i)
        return i in (0, 2) and len(new) >= 4

    made = generate(GPT, ends=[NEVER], watch=watch, every=2)
    assert made.tokens == [free[0][:4], free[1], free[2][:4], free[3]]
    assert made.ended == [True, False, True, False] and looks.count(0) == 2
    looks.clear()
    all_over = generate(GPT, PROMPTS[:1], ends=[NEVER], watch=watch, every=2)
    assert all_over.tokens == [free[0][:4]] and looks == [0, 0]


def test_texts_end_before_a_stop_string(monkeypatch):
    given = (new_params(GPT), GPT, helpers.byte_pairs(), ["naïve", "", "a"])
    free = decode.continue_texts(*given, max_tokens=8, decoding=GREEDY)
    stop = free[0][2:4]
    expected = [text.partition(stop)[0] for text in free]
    ending = DecodingConfig(stop=(stop,))
    found = decode.continue_texts(*given, max_tokens=8, decoding=ending)
    assert found == expected and len(found[0]) == 2
    monkeypatch.setattr(DecodingConfig, "searches", True)  # with one beam: the same text
    assert decode.continue_texts(*given, max_tokens=8, decoding=ending) == expected


def test_only_allowed_tokens_are_produced():
    allowed = np.zeros(40, bool)  # shorter than the vocabulary: the rest is not allowed
    allowed[[3, 17, 39]] = True
    hot = DecodingConfig(temperature=1e6, top_k=VOCAB - 1, top_p=0.99999, seed=2)
    made = generate(GPT, PROMPTS, hot, allowed=allowed)
    assert {t for row in made.tokens for t in row} == {3, 17, 39}
    many = [generate(GPT, PROMPTS, hot, ids=range(i, i + 4)).tokens for i in range(0, 160, 4)]
    seen = {t for rows in many for row in rows for t in row}
    assert max(seen) < VOCAB < GPT.padded_vocab and len(seen) > 0.9 * VOCAB


def test_no_prompts_no_texts():
    assert generate(GPT, []).tokens == []


def test_on_a_mesh_as_on_one_device():
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    placed = rules.shardings(parameters.logical_axes(GPT, {}), parameters.shapes(GPT, {}), mesh)
    params = jax.device_put(new_params(GPT), placed)
    expected = generate(GPT, PROMPTS[:3], SAMPLED).tokens
    assert generate(GPT, PROMPTS[:3], SAMPLED, params=params).tokens == expected


def test_errors_come_before_anything_runs():
    def refused(kind: type[Exception], said: str, prompts: Any = PROMPTS, **changes: Any) -> None:
        with pytest.raises(kind, match=said):
            generate(GPT, prompts, params={"none": None}, **changes)

    refused(UserError, "10 prompt tokens.* 12 new tokens.* 21 positions.* 11", max_tokens=12)
    refused(UserError, "30 prompt tokens.*shorten the prompt", [[1] * 30])
    refused(UserError, "max_tokens=0", max_tokens=0)
    refused(UserError, "top_p=2", decoding=DecodingConfig(top_p=2.0))
    refused(UserError, "min_p=2", decoding=DecodingConfig(min_p=2.0))
    refused(UserError, "beams=0", decoding=DecodingConfig(beams=0))
    drawn = dataclasses.replace(SAMPLED, beams=2)
    refused(UserError, "beams=2 and temperature=1.3", decoding=drawn)
    refused(ValueError, "watched", decoding=DecodingConfig(beams=2), watch=lambda i, new: False)
    refused(ValueError, "at least one token", [[]])
    refused(ValueError, "1 ids for 4 prompts", ids=[1])


def test_texts_go_on_from_an_end_of_text_token():
    tokenizer, params = helpers.byte_pairs(), new_params(GPT)
    texts = ["naïve", "", "two  ", "a"]
    made = decode.continue_texts(params, GPT, tokenizer, texts, max_tokens=8, decoding=GREEDY)
    prompts = [[tokenizer.eos, *tokenizer.encode(text).ids.tolist()] for text in texts]
    allowed = decode.allowed_tokens(tokenizer)
    found = generate(GPT, prompts, ends=[tokenizer.eos], max_tokens=8, allowed=allowed).tokens
    assert made == [tokenizer.decode(tokens) for tokens in found]
    assert not {t for tokens in found for t in tokens} & tokenizer.special_ids


def test_special_tokens_are_not_allowed_and_end_of_text_is():
    tokenizer = helpers.byte_pairs()
    assert decode.allowed_tokens(tokenizer)[[tokenizer.pad, tokenizer.eos]].tolist() == [
        False,
        True,
    ]


def test_a_continuation_keeps_the_space_before_it():
    tokenizer = helpers.word_pieces()
    first, second = (tokenizer.encode(word).ids.tolist() for word in helpers.words()[:2])
    text = decode.decode_continuation(tokenizer, first, second)
    assert text == f" {helpers.words()[1]}"
