"""Beam search finds the best text, scores it as the full pass does, and ignores other rows."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from research.errors import UserError
from research.generation import beams as searching
from research.generation import decoding as decodings
from research.generation.decoding import DecodingConfig
from research.models import params as parameters
from research.sharding import mesh as meshes
from research.sharding import rules
from research.sharding.mesh import MeshConfig
from tests.generation.test_decode import (
    EOS,
    GPT,
    LLAMA,
    NEVER,
    PROMPTS,
    VOCAB,
    full_logits,
    generate,
    new_params,
)

FOUR = DecodingConfig(beams=4, length_penalty=0.3)
PENALISED_FOUR = dataclasses.replace(FOUR, repetition_penalty=2.0)
FEW = [EOS, 7, 30, 31]  # tokens that an exhaustive search can go through


def test_one_beam_is_greedy(monkeypatch):
    stop = generate(GPT, ends=[NEVER]).tokens[0][4]
    greedy = generate(GPT, ends=[stop])
    assert greedy.ended[0] and not all(greedy.ended)
    monkeypatch.setattr(DecodingConfig, "searches", True)
    found = generate(GPT, ends=[stop])
    assert (found.tokens, found.ended) == (greedy.tokens, greedy.ended)


@pytest.mark.parametrize("four", [FOUR, PENALISED_FOUR], ids=["plain", "penalised"])
def test_a_batch_is_each_prompt_alone(four):
    stop = generate(GPT, PROMPTS, four, ends=[NEVER]).tokens[0][4]
    together = generate(GPT, PROMPTS, four, ends=[stop])
    assert len({tuple(t) for t in together.tokens}) == 4
    assert any(together.ended) and not all(together.ended)
    one = dataclasses.replace(four, beams=1)
    assert together.tokens != generate(GPT, PROMPTS, one, ends=[stop]).tokens
    for i, prompt in enumerate(PROMPTS):
        alone = generate(GPT, [prompt], four, ends=[stop])
        assert (alone.tokens, alone.ended) == ([together.tokens[i]], [together.ended[i]])
    split = generate(GPT, PROMPTS[::-1], four, ends=[stop], rows=12)
    assert split.tokens == together.tokens[::-1]


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0, 2.0])
def test_beams_for_all_texts_find_the_best_of_them(penalty):
    """64 beams hold all texts of three tokens, so none is pruned and none ends early."""
    texts = [
        text
        for size in (1, 2, 3)
        for text in itertools.product(FEW, repeat=size)
        if EOS not in text[:-1] and (size == 3 or text[-1] == EOS)
    ]
    allowed = np.isin(np.arange(VOCAB), FEW)
    prompts = PROMPTS[:2]
    many = DecodingConfig(beams=64, length_penalty=penalty)
    made = generate(LLAMA, prompts, many, max_tokens=3, allowed=allowed, rows=128)
    full = jax.jit(lambda tokens: full_logits(new_params(LLAMA), LLAMA, tokens))
    for prompt, found in zip(prompts, made.tokens, strict=True):
        padded = [[*prompt, *text, *[0] * (3 - len(text))] for text in texts]
        gains = np.asarray(jax.nn.log_softmax(full(np.array(padded))[..., :VOCAB], axis=-1))
        scores = [
            sum(gains[i, len(prompt) - 1 + n, token] for n, token in enumerate(text))
            / len(text) ** penalty
            for i, text in enumerate(texts)
        ]
        best = texts[int(np.argmax(scores))]
        assert found == [token for token in best if token != EOS]


def test_one_program_for_other_penalties_and_ends():
    generate(GPT, PROMPTS[:3], PENALISED_FOUR)
    programs = searching.search._cache_size()
    other = DecodingConfig(beams=4, length_penalty=-1.0, repetition_penalty=0.8)
    generate(GPT, PROMPTS, other, ends=[2], max_tokens=11)
    assert searching.search._cache_size() == programs > 0


def test_the_end_is_all_there_is():
    only = np.arange(VOCAB) == EOS
    made = generate(GPT, PROMPTS, FOUR, allowed=only)
    assert made.tokens == [[]] * 4 and all(made.ended)


def test_on_a_mesh_as_on_one_device():
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    placed = rules.shardings(parameters.logical_axes(GPT, {}), parameters.shapes(GPT, {}), mesh)
    params = jax.device_put(new_params(GPT), placed)
    expected = generate(GPT, PROMPTS[:3], PENALISED_FOUR).tokens
    assert generate(GPT, PROMPTS[:3], PENALISED_FOUR, params=params).tokens == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"beams": 0}, "beams=0 must be a whole number from 1 to 1024"),
        ({"beams": 1025}, "beams=1025"),
        ({"length_penalty": 11.0}, "length_penalty=11.0 must be a number from -10 to 10"),
        ({"length_penalty": float("nan")}, "length_penalty=nan"),
        ({"beams": 2, "temperature": 0.8}, "beams=2 and temperature=0.8"),
        ({"beams": 2, "top_k": 3}, "beams=2 and top_k=3"),
        ({"beams": 2, "top_p": 0.9}, "beams=2 and top_p=0.9"),
        ({"beams": 2, "min_p": 0.1}, "beams=2 and min_p=0.1"),
    ],
)
def test_what_a_search_cannot_use_is_named(given, said):
    with pytest.raises(UserError, match=said):
        decodings.check(DecodingConfig(**given))
