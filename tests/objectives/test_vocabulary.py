"""Cross-entropy over the vocabulary: against NumPy, and in chunks."""

import jax
import numpy as np
import pytest

from research.draws import generator
from research.objectives import vocabulary
from research.sharding.mesh import MeshConfig, make_mesh, use

REAL, PADDED = 100, 128


def arrays():
    draw = generator("vocabulary")
    features = draw.normal(size=(3, 24, 8)).astype(np.float32)
    table = draw.normal(size=(PADDED, 8)).astype(np.float32)
    bias = draw.normal(size=PADDED).astype(np.float32)
    targets = draw.integers(0, REAL, (3, 24)).astype(np.int32)
    weights = (draw.random((3, 24)) < 0.7).astype(np.float32) * 0.5
    return features, table, bias, targets, weights


def expected(features, table, bias, targets, weights):
    logits = np.float64(features) @ np.float64(table[:REAL]).T + bias[:REAL]
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(logp, targets[..., None], -1)[..., 0]
    correct = logits.argmax(-1) == targets
    return -(picked * weights).sum(), (correct * weights).sum()


def test_sums_are_the_weighted_cross_entropy_and_hits():
    given = arrays()
    features, table, bias, targets, weights = given
    targets[0] = np.argmax(features[0] @ table[:REAL].T + bias[:REAL], -1)  # some hits
    loss, correct = vocabulary.sums(*given, REAL)
    assert np.allclose((loss, correct), expected(*given), rtol=1e-5)
    assert correct > 0


@pytest.mark.parametrize("chunk", [1, 7, 8, 24, 1000])
def test_chunks_change_neither_sums_nor_gradients(chunk):
    features, table, bias, targets, weights = arrays()

    def loss(chunk):
        def of(features, table, bias):
            return vocabulary.chunked_sums(features, table, bias, targets, weights, REAL, chunk)

        return jax.jit(jax.value_and_grad(of, argnums=(0, 1, 2), has_aux=True))

    whole, found = (loss(n)(features, table, bias) for n in (24, chunk))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(found), strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-5)
    assert not np.asarray(found[1][1])[REAL:].any()


def test_chunks_bound_the_logits_in_memory():
    """No tensor of the compiled program has more logits than a chunk of each row."""
    features, table, bias, targets, weights = arrays()

    def loss(features):
        return vocabulary.chunked_sums(features, table, None, targets, weights, REAL, 4)[0]

    text = jax.jit(jax.grad(loss)).lower(features).compile().as_text()
    assert f"f32[3,4,{PADDED}]" in text
    assert f"f32[3,24,{PADDED}]" not in text


def test_the_chunk_is_the_largest_divisor():
    sizes = {(128, 50): 32, (48, 8): 8, (48, 7): 6, (13, 5): 1, (64, 1000): 64}
    for (length, at_most), size in sizes.items():
        found = vocabulary.in_chunks(np.zeros((2, length)), at_most)
        assert found.shape == (length // size, 2, size)


def test_a_chunk_has_as_many_positions_of_each_part():
    config = MeshConfig(data=2, context=4)
    with use(make_mesh(config), config):
        found = jax.jit(lambda x: vocabulary.in_chunks(x, 10))(np.arange(96).reshape(2, 48))
        few = jax.eval_shape(lambda x: vocabulary.in_chunks(x, 3), np.zeros((2, 48)))
    assert found.shape == (6, 2, 8) and few.shape == (12, 2, 4)
    assert found.sharding.shard_shape(found.shape) == (6, 1, 2)
    for chunk in np.asarray(found)[:, 0]:
        assert np.bincount(chunk // 12, minlength=4).tolist() == [2, 2, 2, 2]
