"""Heads against NumPy, and the padding of the vocabulary."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.draws import generator
from research.models import heads
from research.models import params as parameters
from tests import helpers


@pytest.mark.parametrize("bias", [True, False])
def test_padding_of_the_vocabulary_is_never_predicted(bias):
    draw = generator("padding")
    features = jnp.asarray(draw.normal(size=(2, 3, 8)), jnp.float32)
    table = draw.normal(size=(128, 8)).astype(np.float32)
    table[100:] = 50 * np.sign(table[100:])  # the largest logits by far
    offset = jnp.full((128,), 0.5).at[100:].set(1e4) if bias else None
    logits = heads.vocabulary_logits(features, jnp.asarray(table), offset, 100)
    probability = np.asarray(jax.nn.softmax(logits))
    assert (probability[..., 100:] == 0).all()
    assert np.asarray(jnp.argmax(logits, -1)).max() < 100
    expected = np.asarray(features) @ table[:100].T + (0.5 if bias else 0)
    assert np.allclose(logits[..., :100], expected, atol=1e-4)


def test_no_gradient_reaches_the_padding():
    features = jnp.ones((1, 1, 8))

    def loss(table):
        return -jax.nn.log_softmax(heads.vocabulary_logits(features, table, None, 100))[0, 0, 3]

    table = jnp.asarray(generator("table").normal(size=(128, 8)), jnp.float32)
    grads = np.asarray(jax.grad(loss)(table))
    assert not grads[100:].any() and np.abs(grads[:100]).min() > 0


def test_the_transform_before_the_vocabulary():
    """Dense, exact GELU, layer norm, as in BERT's released code."""
    model = helpers.bert()
    head = heads.MaskedLM(model)
    draw = generator("transform")
    x = draw.normal(size=(1, 2, 16))
    params = head.init(jax.random.key(0), jnp.asarray(x, jnp.float32))["params"]
    params = jax.tree.map(lambda box: box.value, params, is_leaf=parameters._is_box)
    params = jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape), jnp.float32), params)
    found, bias = head.apply({"params": params}, jnp.asarray(x, jnp.float32))
    y = x @ np.asarray(params["transform"]["kernel"]) + np.asarray(params["transform"]["bias"])
    y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-12)
    y = y * np.asarray(params["norm"]["scale"]) + np.asarray(params["norm"]["bias"])
    assert np.allclose(found, y, atol=1e-4)
    assert bias.shape == (model.padded_vocab,)


def test_a_classifier_is_linear_and_answers_in_float32():
    model = helpers.bert(dtype="bfloat16")
    head = heads.Classifier(model, classes=3)
    x = jnp.asarray(generator("classify").normal(size=(2, 4, 16)), jnp.bfloat16)
    params = head.init(jax.random.key(0), x)
    assert head.apply(params, x).shape == (2, 4, 3)
    assert head.apply(params, x).dtype == jnp.float32


def test_the_output_table_is_the_embedding_or_the_heads_own():
    tied, own = helpers.gpt(), helpers.gpt(tied_embeddings=False)
    params = {"backbone": {"embedding": {"word": 1}}, "heads": {"causal_lm": {"table": 2}}}
    assert heads.output_table(params, tied, "causal_lm") == 1
    assert heads.output_table(params, own, "causal_lm") == 2
