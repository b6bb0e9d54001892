"""Processed logits and beam searches equal transformers' (golden.npz, made by make_golden.py)."""

from pathlib import Path

import jax
import numpy as np
import pytest

from research.convert import importer
from research.generation import decode, loop, samplers
from research.generation.decoding import DecodingConfig
from tests import helpers

GOLDEN = dict(np.load(Path(__file__).parent / "golden.npz"))
MODEL = Path(__file__).parents[1] / "convert/golden/GPT2LMHeadModel"


@pytest.mark.parametrize("number", range(len(GOLDEN["settings"])))
def test_processed_logits_and_their_order(number):
    penalty, temperature, top_k, top_p, min_p = GOLDEN["settings"][number].tolist()
    decoding = DecodingConfig(temperature, int(top_k), top_p, min_p, penalty)
    logits, tokens = GOLDEN["logits"], GOLDEN["tokens"]
    rows, size = logits.shape
    knobs = loop.numbers(decoding) | {"allowed": np.ones(size, bool)}
    plan = loop.Plan.of(decoding, helpers.gpt(vocab_size=size))
    seen = samplers.seen_tokens(tokens, np.full(rows, tokens.shape[1]), size)
    ours = np.asarray(loop.shaped(logits, seen, knobs, plan))
    theirs = GOLDEN[f"processed_{number}"]
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    np.testing.assert_allclose(jax.nn.log_softmax(ours), jax.nn.log_softmax(theirs), atol=1e-5)


@pytest.mark.parametrize("beams", sorted(set(GOLDEN["searches"][:, 1].astype(int).tolist())))
def test_beams_token_for_token(beams):
    imported = importer.read(MODEL)
    embedding = imported.params["backbone"]["embedding"]
    lengths = np.linalg.norm(embedding["word"], axis=1, keepdims=True)
    embedding["word"] = embedding["word"] * 2 / np.maximum(lengths, 1e-9)
    embedding["position"] = embedding["position"] * 10
    compared = 0
    for search, found in zip(GOLDEN["searches"], GOLDEN["found"], strict=True):
        row, count, *ends = search[:4].astype(int).tolist()
        if count != beams:
            continue
        length, penalty = search[4:].tolist()
        made = decode.generate(
            imported.params,
            imported.config.model,
            [GOLDEN["prompts"][row, : GOLDEN["prompt_lengths"][row]].tolist()],
            ends=[end for end in ends if end < 41],
            max_tokens=found.size,
            decoding=DecodingConfig(repetition_penalty=penalty, beams=count, length_penalty=length),
        )
        assert made.tokens == [found[found >= 0].tolist()], search
        compared += 1
    assert compared >= 18
