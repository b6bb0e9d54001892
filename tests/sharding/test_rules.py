"""The sharding table: what is split where, what falls back, and which tables are refused."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec as P

from research.errors import UserError
from research.sharding.mesh import MeshConfig, make_mesh
from research.sharding.rules import RULES, fallbacks, like_params, shardings, table

AXES = {
    "backbone": {
        "embed": {"tokens": ("vocab", "embed"), "positions": ("positions", "embed")},
        "layers": {
            "query": {
                "kernel": ("layers", "embed", "heads", "head_width"),
                "bias": ("layers", "heads", "head_width"),
            },
            "up": {"kernel": ("layers", "embed", "mlp"), "bias": ("layers", "mlp")},
            "norm": {"scale": ("layers", None)},
        },
    },
    "heads": {"label": {"bias": ("classes",), "scale": ()}},
}
SHAPES = {
    "backbone": {
        "embed": {"tokens": (256, 32), "positions": (64, 32)},
        "layers": {
            "query": {"kernel": (8, 32, 4, 8), "bias": (8, 4, 8)},
            "up": {"kernel": (8, 32, 128), "bias": (8, 128)},
            "norm": {"scale": (8, 30)},
        },
    },
    "heads": {"label": {"bias": (3,), "scale": ()}},
}


def shapes(tree=SHAPES):
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        tree,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def mesh(**sizes):
    return make_mesh(MeshConfig(**sizes))


def specs(**sizes):
    return jax.tree.map(lambda s: s.spec, shardings(AXES, shapes(), mesh(**sizes)))


def test_tensor_rule_first_then_fsdp_takes_the_largest_left():
    found = specs(data=1, fsdp=4, tensor=2)
    layers = found["backbone"]["layers"]
    assert found["backbone"]["embed"]["tokens"] == P("tensor", "fsdp")
    assert found["backbone"]["embed"]["positions"] == P("fsdp", None)
    assert layers["query"]["kernel"] == P(None, "fsdp", "tensor", None)
    assert layers["query"]["bias"] == P(None, "tensor", "fsdp")
    assert layers["up"]["kernel"] == P(None, "fsdp", "tensor")
    assert layers["up"]["bias"] == P(None, "tensor")
    assert layers["norm"]["scale"] == P(None, None)
    assert found["heads"]["label"] == {"bias": P(None), "scale": P()}


def test_without_tensor_fsdp_may_have_any_dimension_but_the_layers():
    found = specs(data=1, fsdp=8)
    assert found["backbone"]["embed"]["tokens"] == P("fsdp", None)
    assert found["backbone"]["layers"]["up"]["kernel"] == P(None, None, "fsdp")
    assert found["backbone"]["layers"]["up"]["bias"] == P(None, "fsdp")
    # 8 layers divide by 8, 30 does not: the scanned dimension stays whole all the same.
    assert found["backbone"]["layers"]["norm"]["scale"] == P(None, None)


def test_data_parallel_replicates_everything():
    tree = shardings(AXES, shapes(), mesh(data=8))
    assert all(s.is_fully_replicated for s in jax.tree.leaves(tree))
    assert fallbacks(tree, shapes()) == []


def test_arrays_can_be_placed():
    tree = shardings(AXES, shapes(), mesh(data=2, fsdp=2, tensor=2))
    arrays = jax.jit(
        lambda: jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes()), out_shardings=tree
    )()
    kernel = arrays["backbone"]["layers"]["up"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (8, 16, 64)


def test_fallbacks_are_listed_with_path_and_shape():
    tree = shardings(AXES, shapes(), mesh(data=1, fsdp=4, tensor=2))
    left = {f.path: (f.shape, f.bytes) for f in fallbacks(tree, shapes())}
    assert left == {
        "backbone/layers/up/bias": ((8, 128), 8 * 64 * 4),
        "backbone/layers/norm/scale": ((8, 30), 8 * 30 * 4),
        "heads/label/bias": ((3,), 12),
        "heads/label/scale": ((), 4),
    }
    assert fallbacks(tree, shapes())[0].path == "backbone/layers/up/bias"


def test_tensor_rule_that_does_not_divide():
    with pytest.raises(UserError) as error:
        specs(data=1, tensor=8)
    text = str(error.value)
    assert "backbone/layers/query/" in text
    for part in ("'heads'", "size 4", "tensor=8", "dimension"):
        assert part in text


def test_mesh_axis_twice_in_one_array():
    rules = {**RULES, "embed": "tensor"}
    with pytest.raises(UserError, match="(?s)backbone/embed/tokens.*'vocab'.*'embed'.*'tensor'"):
        shardings(
            {"backbone": {"embed": {"tokens": ("vocab", "embed")}}},
            shapes({"backbone": {"embed": {"tokens": (256, 32)}}}),
            mesh(data=8),
            rules,
        )


def test_unknown_names():
    tree, shape = {"w": ("embed", "hedas")}, shapes({"w": (8, 8)})
    with pytest.raises(UserError, match="w: unknown logical axis 'hedas'; did you mean 'heads'"):
        shardings(tree, shape, mesh())
    with pytest.raises(UserError, match="'tensro'.*did you mean 'tensor'"):
        shardings({"w": ("embed", None)}, shape, mesh(), {**RULES, "mlp": "tensro"})


def test_trees_that_differ():
    with pytest.raises(ValueError, match="heads/label/bias"):
        shardings({"w": ("embed",)}, shapes({"heads": {"label": {"bias": (3,)}}}), mesh())
    with pytest.raises(ValueError, match="w: 2 axis names"):
        shardings({"w": ("embed", None)}, shapes({"w": (3,)}), mesh())


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adamw(1e-3),
        optax.chain(
            optax.clip_by_global_norm(1.0), optax.lamb(optax.linear_schedule(1e-3, 0.0, 10))
        ),
        optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
        optax.multi_transform(
            {"train": optax.adam(1e-3), "freeze": optax.set_to_zero()},
            {"backbone": "train", "heads": "freeze"},
        ),
        optax.MultiSteps(optax.adam(1e-3), every_k_schedule=2),
    ],
    ids=["adamw", "lamb", "injected", "multi", "accumulated"],
)
def test_optimizer_state_follows_its_params(optimizer):
    here = mesh(data=1, fsdp=4, tensor=2)
    params = shardings(AXES, shapes(), here)
    state = jax.eval_shape(optimizer.init, shapes())
    found = like_params(state, params, shapes(), here)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    followed = 0
    for (path, leaf), sharding in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(found), strict=True
    ):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("embed/tokens"):
            assert sharding.spec == P("tensor", "fsdp"), name
            followed += 1
        if leaf.shape == ():
            assert sharding.spec == P(), name
    assert followed >= 2
    placed = jax.jit(
        lambda: optimizer.init(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes())),
        out_shardings=found,
    )()
    assert jax.tree.structure(placed) == jax.tree.structure(state)


def test_factored_moments_have_another_shape_and_stay_whole():
    here = mesh(data=1, fsdp=8)
    tree = {"w": ("embed", "embed2")}
    shape = shapes({"w": (256, 512)})
    params = shardings(tree, shape, here, {**RULES, "embed2": None})
    state = jax.eval_shape(optax.adafactor(1e-3).init, shape)
    found = like_params(state, params, shape, here)
    for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert (sharding.spec == P()) == (leaf.shape != (256, 512))


def test_a_config_changes_the_table():
    assert table({}) == RULES
    assert table({"kv_heads": None, "embed": "fsdp"}) == RULES | {"kv_heads": None, "embed": "fsdp"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"haeds": None}, "config.mesh.rules.haeds is not a logical axis; did you mean 'heads'"),
        ({"heads": "tensro"}, "'tensro'.*did you mean 'tensor'"),
        ({"mlp": "data"}, "'data': that axis has copies"),
        ({"layers": "fsdp"}, "layers run one after the other"),
    ],
)
def test_changes_that_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        table(changes)
