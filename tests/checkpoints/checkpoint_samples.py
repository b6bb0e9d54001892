"""A small state to save, and how the tests of checkpoints save, restore and compare it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.checkpoints.checkpoint import Checkpoints
from research.checkpoints.folder import absolute, first_good
from research.checkpoints.reading import load

TOKENIZER = json.dumps({"model": {"vocab": {"[PAD]": 0, "Ġcafé": 1}}}, ensure_ascii=False)
CONFIG = {"model": {"width": 32}, "rate": 1e-3}
META = {"position": [3, 17], "best": 0.1 + 0.2}
AXES = {
    "backbone": {
        "embed": ("vocab", "embed"),
        "layers": {"kernel": ("layers", "embed", "mlp"), "bias": ("layers", "mlp")},
    },
    "heads": {"label": {"kernel": ("embed", "classes")}, "mlm": {"bias": ("vocab",)}},
}
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def make_params(seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape, dtype=jnp.float32):
        return jnp.asarray(rng.normal(size=shape), dtype)

    return {
        "backbone": {
            "embed": draw(512, 32),
            "layers": {"kernel": draw(3, 32, 64), "bias": draw(3, 64, dtype=jnp.bfloat16)},
        },
        "heads": {"label": {"kernel": draw(32, 5)}, "mlm": {"bias": draw(512)}},
    }


def make_state(seed=0):
    params = make_params(seed)
    state = OPTIMIZER.init(params)
    return {
        "params": params,
        "opt_state": jax.tree.map(lambda x: x + jnp.asarray(3 + seed, x.dtype), state),
    }


def target_of(tree, sharding=None):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding or x.sharding), tree
    )


def save(directory, *steps):
    with Checkpoints(str(directory), keep=10) as checkpoints:
        for step in steps:
            checkpoints.save(
                step, **make_state(step), meta=META, tokenizer_json=TOKENIZER, config=CONFIG
            )


def restore(directory, step=None):
    """Restores the newest good step, or the given one, as a run does, but renames nothing."""
    target = target_of(make_state())
    return first_good(
        absolute(str(directory)), step, lambda folder: load(folder, target, whole=True)
    )[0]


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        assert a.dtype == b.dtype, path
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), path
