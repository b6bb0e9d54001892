"""The backbone: packing, causality, layers, dropout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.data.batch import Layout, Segment, assemble
from research.draws import generator
from research.models import transformer
from research.objectives import make_objectives
from research.objectives.causal_lm import CausalLMConfig
from tests import helpers

SIZES = (7, 12, 5)  # tokens of the three segments of a row; the rest is padding
FAMILIES = {
    "bert": (helpers.bert, {}, "full"),
    "gpt": (helpers.gpt, {}, "causal"),
    "rotary, grouped, gated": (
        helpers.gpt,
        {
            "positions": "rope",
            "heads": 4,
            "kv_heads": 2,
            "gated": True,
            "activation": "silu",
            "norm": "rmsnorm",
            "bias": False,
            "tied_embeddings": False,
        },
        "causal",
    ),
}


def make_segments(length: int = helpers.LENGTH) -> list[Segment]:
    """Three segments with everything that any objective reads."""
    draw = generator("segments")
    return [
        Segment(
            draw.integers(5, 170, n).astype(np.int32),
            (np.arange(n) > n // 2).astype(np.int32),
            labels={"random_next": i % 2},
            predict_positions=np.array([1, n - 2]),
            predict_targets=draw.integers(5, 170, 2),
            targets=draw.integers(5, 170, n),
            target_weights=np.ones(n),
        )
        for i, n in enumerate(SIZES)
    ]


LAYOUT = Layout(helpers.LENGTH, 4, predictions=8, targets=True, labels=("random_next",))


def objectives_of(model, pattern):
    causal = dataclasses.replace(helpers.CAUSAL, causal_lm=CausalLMConfig(chunk=12))
    return make_objectives(causal if pattern == "causal" else helpers.MASKED_AND_NEXT)


@pytest.fixture(scope="module", params=FAMILIES, ids=list(FAMILIES))
def family(request):
    """(model, pattern, objectives, params)."""
    make, changes, pattern = FAMILIES[request.param]
    model = make(**changes)
    objectives = objectives_of(model, pattern)
    return model, pattern, objectives, helpers.new_params(model, objectives)


def loss_of_embeddings(family, batch):
    """The training loss as a function of the embeddings, and the embeddings."""
    model, pattern, objectives, params = family
    backbone = params["backbone"]
    x = transformer.embed(
        backbone, model, batch["tokens"], batch["positions"], batch["token_types"]
    )

    def loss(x, weighted):
        hidden = transformer.encode(
            backbone, model, x, weighted["segments"], weighted["positions"], pattern
        )
        return sum(o.loss(params, model, hidden, weighted, None)[0] for o in objectives)

    return loss, x


@pytest.mark.smoke
def test_no_gradient_crosses_from_segment_to_segment(family):
    """Invariant: packed = unpacked, exactly."""
    batch = jax.tree.map(jnp.asarray, assemble([make_segments()], LAYOUT, pad=0))
    loss, x = loss_of_embeddings(family, batch)
    owner = batch["segments"][0]
    gradient = jax.jit(jax.grad(loss))
    for segment in range(1, 4):
        own = {
            "target_weights": batch["target_weights"] * (owner == segment),
            "segment_weights": jnp.zeros_like(batch["segment_weights"]).at[0, segment - 1].set(1.0),
            "predict_weights": batch["predict_weights"]
            * (owner[batch["predict_positions"]] == segment),
        }
        found = np.abs(np.asarray(gradient(x, batch | own)))[0].max(-1)
        inside = np.asarray(owner) == segment
        assert (found[~inside] == 0).all(), f"segment {segment} leaks into {found.nonzero()}"
        # Every input of the segment matters (with causal attention even the last: its own target).
        assert (found[inside] > 0).all()


def test_packed_rows_have_the_hidden_states_of_rows_of_one_segment(family):
    model, pattern, _, params = family
    segments = make_segments()
    run = jax.jit(lambda batch: transformer.apply(params["backbone"], model, batch, pattern))
    packed = np.asarray(run(assemble([segments, [], []], LAYOUT, pad=0)))[0]
    alone = np.asarray(run(assemble([[segment] for segment in segments], LAYOUT, pad=0)))
    at = 0
    for row, n in enumerate(SIZES):
        assert np.allclose(packed[at : at + n], alone[row, :n], atol=1e-5)
        at += n
    assert not np.allclose(alone[0, 0], alone[1, 0], atol=1e-2)


@pytest.mark.parametrize("pattern", ["causal", "full"])
def test_only_an_encoder_lets_the_future_in(pattern):
    """Invariant: the gradient of the loss at t with respect to embeddings after t."""
    model = helpers.gpt()
    objectives = objectives_of(model, "causal")
    params = helpers.new_params(model, objectives)
    batch = jax.tree.map(jnp.asarray, assemble([make_segments()], LAYOUT, pad=0))
    loss, x = loss_of_embeddings((model, pattern, objectives, params), batch)

    def of_one_target(weights):
        return jax.grad(loss)(x, batch | {"target_weights": weights[None]})[0]

    grads = jax.jit(jax.vmap(of_one_target))(jnp.eye(helpers.LENGTH))
    size = np.abs(np.asarray(grads)).max(-1)  # [target, embedding]
    owner = np.asarray(batch["segments"][0])
    same = (owner[:, None] == owner) & (owner[:, None] > 0)
    t, s = np.indices(same.shape)
    assert (size[~same & (owner[:, None] > 0)] == 0).all()
    assert (size[same & (s <= t)] > 0).all()
    future = size[same & (s > t)]
    assert (future == 0).all() if pattern == "causal" else (future > 0).all()


def test_what_padding_holds_changes_nothing(family):
    model, pattern, _, params = family
    batch = assemble([make_segments()], LAYOUT, pad=0)
    other = {k: v.copy() for k, v in batch.items()}
    padding = batch["segments"] == 0
    other["tokens"][padding], other["positions"][padding] = 33, 5
    run = jax.jit(lambda b: transformer.apply(params["backbone"], model, b, pattern))
    assert np.array_equal(run(batch)[0, ~padding[0]], run(other)[0, ~padding[0]])


def test_the_scan_runs_the_layers_one_after_the_other():
    model = helpers.bert(layers=3)
    params = helpers.new_params(model)["backbone"]
    batch = assemble([make_segments()], LAYOUT, pad=0)
    found = jax.jit(lambda p: transformer.apply(p, model, batch, "full"))(params)
    one = dataclasses.replace(model, layers=1)
    x = transformer.embed(params, model, batch["tokens"], batch["positions"], batch["token_types"])
    step = jax.jit(
        lambda p, x: transformer.encode(p, one, x, batch["segments"], batch["positions"], "full")
    )
    for layer in range(3):
        block = jax.tree.map(lambda leaf, i=layer: leaf[i : i + 1], params["layers"])
        x = step(params | {"layers": block}, x)
    assert np.allclose(found, x, atol=1e-5)


def test_embeddings_are_the_sum_of_three_tables_and_a_norm():
    model = helpers.bert()
    params = helpers.new_params(model)["backbone"]
    tables = params["embedding"]
    batch = assemble([make_segments()], LAYOUT, pad=0)
    where = [batch[name] for name in ("tokens", "positions", "token_types")]
    found = transformer.embed(params, model, *where)
    names = ("word", "position", "token_type")
    x = sum(np.asarray(tables[name], np.float64)[w] for name, w in zip(names, where, strict=True))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    x = x * np.asarray(tables["norm"]["scale"]) + np.asarray(tables["norm"]["bias"])
    assert np.allclose(found, x, atol=1e-4)


def keys(rows: int, seed: int = 0):
    return jax.vmap(lambda r: jax.random.fold_in(jax.random.key(seed), r))(jnp.arange(rows))


def test_dropout_belongs_to_the_row_and_differs_by_row_and_key():
    model = helpers.bert(dropout=0.3, attention_dropout=0.3, layers=1)
    params = helpers.new_params(model)["backbone"]
    batch = assemble([make_segments()] * 4, LAYOUT, pad=0)
    run = jax.jit(lambda b, k: transformer.apply(params, model, b, "full", k))
    whole = np.asarray(run(batch, keys(4)))
    assert not np.allclose(whole[0], whole[1], atol=1e-2), "rows share their dropout"
    order = np.array([2, 0, 3, 1])
    moved = np.asarray(run(batch, keys(4)[order]))
    assert np.array_equal(moved, whole[order])
    assert not np.allclose(whole, run(batch, keys(4, seed=1)), atol=1e-2)


def test_layers_draw_different_dropout():
    """Each layer adds dropout(1) to zeros: 0, 2 or 4; only 0 and 4 if the layers' masks agree."""
    model = helpers.gpt(dropout=0.5)
    params = jax.tree.map(jnp.zeros_like, helpers.new_params(model)["backbone"])
    params["layers"]["mlp"]["down"]["bias"] = jnp.ones((2, 16))
    params["final_norm"]["scale"] = jnp.ones(16)
    segments, positions = jnp.ones((1, 4), int), jnp.arange(4)[None]

    @jax.jit
    def run(row_keys):
        # An input other than 0 would be dropped too; the final norm keeps equal values equal.
        x = jnp.zeros((1, 4, 16))
        return transformer.encode(params, model, x, segments, positions, "causal", row_keys)

    found = np.round(np.asarray(run(keys(1)))[0], 4)
    assert {len(np.unique(position)) for position in found} == {3}


def test_rematerialising_blocks_changes_no_gradient():
    batch = assemble([make_segments()], LAYOUT, pad=0)
    params = helpers.new_params(helpers.bert())["backbone"]
    direction = generator("direction").normal(size=(helpers.LENGTH, 16))

    def gradient(remat: str):
        model = helpers.bert(remat=remat)
        return jax.grad(lambda p: jnp.sum(transformer.apply(p, model, batch, "full") * direction))

    found = jax.jit(lambda p: [gradient(remat)(p) for remat in ("none", "block")])(params)
    difference, where = helpers.worst(*found)
    assert difference < 1e-5, where


def test_bfloat16_computes_in_bfloat16_on_float32_params():
    model = helpers.bert(dtype="bfloat16")
    params = helpers.new_params(model)["backbone"]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    batch = assemble([make_segments()], LAYOUT, pad=0)
    single = dataclasses.replace(model, dtype="float32")
    hidden, exact = jax.jit(
        lambda p: [transformer.apply(p, m, batch, "full") for m in (model, single)]
    )(params)
    assert hidden.dtype == jnp.bfloat16 and exact.dtype == jnp.float32
    assert np.abs(np.asarray(hidden, np.float32) - np.asarray(exact)).max() < 0.15


def test_the_pooler_sees_the_first_token_of_each_segment():
    model = helpers.bert()
    params = helpers.new_params(model)["backbone"]
    hidden = jnp.asarray(generator("pool").normal(size=(2, 9, 16)), jnp.float32)
    first = jnp.array([[0, 4], [0, 7]])
    found = transformer.pool(params, model, hidden, first)
    kernel, bias = (params["pooler"]["dense"][name] for name in ("kernel", "bias"))
    for row in range(2):
        for segment in range(2):
            x = np.asarray(hidden)[row, int(first[row, segment])]
            assert np.allclose(found[row, segment], np.tanh(x @ kernel + bias), atol=1e-5)
