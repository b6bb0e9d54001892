"""Fused attention equals plain attention, and when it is chosen: splash in Pallas' interpreter,
cuDNN's kernel replaced by jax's plain products for the same call."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.draws import generator
from research.errors import UserError
from research.models import kernels, transformer
from research.models.config import ModelConfig
from research.sharding import mesh as meshes
from research.sharding.constrain import PLACEMENT, Placement
from research.sharding.mesh import MeshConfig
from tests import helpers

ROWS, LENGTH = 2, 256
SHAPE = dict(width=32, heads=4, kv_heads=2, mlp_width=32, max_positions=LENGTH, attention="xla")
MODELS = {
    "full": ("full", ModelConfig(vocab_size=128, **SHAPE)),
    "causal": ("causal", ModelConfig(vocab_size=128, **SHAPE)),
    "full, local": ("full", ModelConfig(vocab_size=128, window=64, global_every=2, **SHAPE)),
    "causal, local": ("causal", ModelConfig(vocab_size=128, window=64, global_every=2, **SHAPE)),
}
MESHES = {
    "alone": None,
    "context and tensor": MeshConfig(data=2, context=2, tensor=2),
}


def batch() -> dict[str, np.ndarray]:
    """Rows of three segments and padding."""
    draw = generator("kernels")
    segments = np.zeros((ROWS, LENGTH), np.int32)
    positions = np.zeros((ROWS, LENGTH), np.int32)
    for row in range(ROWS):
        for segment, (start, end) in enumerate([(0, 100 + row), (100 + row, 171), (171, 240)]):
            segments[row, start:end] = segment + 1
            positions[row, start:end] = np.arange(end - start)
    tokens = draw.integers(128, size=segments.shape).astype(np.int32)
    return {
        "tokens": tokens,
        "segments": segments,
        "positions": positions,
        "token_types": np.zeros_like(segments),
    }


@pytest.fixture
def cudnn_by_products(monkeypatch):
    """A machine without a GPU computes the call that cuDNN would get."""
    plain = functools.partial(jax.nn.dot_product_attention, implementation="xla")

    def stand_in(*arrays, implementation, **options):
        assert implementation == "cudnn"
        return plain(*arrays, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    monkeypatch.setattr(kernels, "_missing_for_cudnn", lambda *_: "")


def hidden_and_gradients(model, pattern, params, mesh: MeshConfig | None):
    given = batch()
    real = (given["segments"] > 0)[..., None]
    weight = generator("weight").normal(size=(ROWS, LENGTH, model.width)) * real

    def loss(params):
        hidden = transformer.apply(params["backbone"], model, given, pattern)
        return jnp.sum(hidden * weight), hidden * real

    there = meshes.use(meshes.make_mesh(mesh), mesh) if mesh else contextlib.nullcontext()
    with there:
        (_, hidden), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return jax.device_get({"hidden": hidden, "gradients": grads})


@functools.cache
def expected(name: str):
    pattern, model = MODELS[name]
    params = helpers.new_params(model)
    return params, hidden_and_gradients(model, pattern, params, None)


def cases():
    for name in MODELS:
        for mesh in MESHES:
            usual = (name, mesh) == ("causal", "context and tensor")
            marks = [pytest.mark.smoke if usual else pytest.mark.long]
            yield pytest.param(name, mesh, marks=marks, id=f"{name}, {mesh}")


@pytest.mark.parametrize(("name", "mesh"), cases())
def test_splash_gives_what_plain_attention_gives(name, mesh):
    pattern, model = MODELS[name]
    params, plain = expected(name)
    fused = ModelConfig(**{**vars(model), "attention": "splash"})
    found = hidden_and_gradients(fused, pattern, params, MESHES[mesh])
    difference, where = helpers.worst(plain, found)
    assert difference < 1e-4, where


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("cudnn_by_products")
def test_cudnn_is_asked_for_what_plain_attention_gives(name):
    pattern, model = MODELS[name]
    params, plain = expected(name)
    asked = dataclasses.replace(model, attention="cudnn")
    found = hidden_and_gradients(asked, pattern, params, None)
    difference, where = helpers.worst(plain, found)
    assert difference < 1e-4, where


@pytest.mark.parametrize("kernel", ["xla", "splash", "cudnn"])
@pytest.mark.parametrize("name", ["full", "causal", "full, local"])
@pytest.mark.usefixtures("cudnn_by_products")
def test_no_segment_sees_another(name, kernel):
    """Exactly: what one segment's states owe to another's embeddings is zero."""
    pattern, model = MODELS[name]
    model = dataclasses.replace(model, attention=kernel)
    params, arrays = helpers.new_params(model)["backbone"], batch()
    segments, positions = arrays["segments"], arrays["positions"]

    def of_first(x):
        hidden = transformer.encode(params, model, x, segments, positions, pattern)
        return jnp.sum(jnp.where(segments[..., None] == 1, hidden, 0))

    x = generator("x").normal(size=(ROWS, LENGTH, model.width)).astype(np.float32)
    owed = np.abs(jax.jit(jax.grad(of_first))(x)).max(-1)
    assert (owed[segments == 1] > 0).all()
    assert (owed[segments != 1] == 0).all()


def choose(platform, length, dropout=False, pattern="full", capability=9.0, **changes):
    model = ModelConfig(**{"width": 32, "heads": 4} | changes)
    with PLACEMENT(Placement(platform=platform, capability=capability)):
        return kernels.choose(model, length, dropout, pattern)


def test_chosen_by_platform_and_length():

    assert choose("tpu", 1024) == "splash"
    assert choose("tpu", 512) == "xla"
    assert choose("tpu", 1024 + 64) == "xla"
    assert choose("cpu", 4096) == "xla"
    assert choose("gpu", 4096) == "xla", "float32"
    assert choose("tpu", 2048, dropout=True, attention_dropout=0.1) == "xla"
    assert choose("tpu", 2048, attention_dropout=0.1) == "splash"
    assert choose("tpu", 2048, attention="xla") == "xla"
    assert choose("cpu", 128, attention="splash") == "splash"


def test_chosen_on_gpus():
    half = dict(dtype="bfloat16")
    assert choose("gpu", 512, **half) == "cudnn"
    assert choose("gpu", 512, pattern="prefix", **half) == "cudnn"
    assert choose("gpu", 64, **half) == "xla"
    assert choose("gpu", 512, capability=7.5, **half) == "xla"
    assert choose("gpu", 512, width=48, **half) == "xla", "heads of 12"
    assert choose("gpu", 512, positions="alibi", **half) == "xla"
    assert choose("gpu", 512, dropout=True, attention_dropout=0.1, **half) == "xla"


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        (("cpu", 512, True), {"attention_dropout": 0.1}, "an NVIDIA GPU of compute capability 8.0"),
        (("gpu", 512), {}, "config.model.dtype='bfloat16', not 'float32'"),
        (("gpu", 511), {"dtype": "bfloat16"}, "an even number of positions, not 511"),
        (("gpu", 512), {"dtype": "bfloat16", "width": 48}, "multiple of 8 up to 128 units, not 12"),
    ],
)
def test_cudnn_asked_for_where_it_cannot_run(place, changes, message):
    with pytest.raises(UserError, match=message):
        choose(*place, attention="cudnn", **changes)


def test_asked_for_where_it_cannot_run():
    asked = ModelConfig(attention="splash", attention_dropout=0.1)
    with pytest.raises(UserError, match="multiple of 128 positions, not 192"):
        kernels.choose(asked, 192)
    with pytest.raises(UserError, match="attention_dropout=0, not 0.1"):
        kernels.choose(asked, 256, dropout=True)
    mesh = MeshConfig(context=4, tensor=2, rules={"kv_heads": None})
    with meshes.use(meshes.make_mesh(mesh), mesh):
        with pytest.raises(UserError, match="multiple of 512"):
            kernels.choose(asked, 256)
        with pytest.raises(UserError, match="split alike"):
            kernels.choose(asked, 512)
