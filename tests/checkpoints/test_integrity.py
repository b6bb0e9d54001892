"""Checksums are the same on every mesh, and differ after every change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from research.checkpoints.integrity import checksums
from research.sharding.mesh import MeshConfig, make_mesh


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "uint16", "int32"])
def test_checksum_is_the_same_on_any_mesh(dtype):
    values = np.random.default_rng(0).normal(size=(8, 24, 16)) * 50
    array = jnp.asarray(values, dtype)
    alone = checksums({"x": array})
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    for spec in [(), ("data",), (None, "fsdp", "tensor"), (("data", "fsdp"), None, "tensor")]:
        placed = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
        assert checksums({"x": placed}) == alone
    assert checksums({"x": np.asarray(array)}) == alone


def test_checksum_of_scalars_and_empty_arrays():
    nested = {"d": jnp.int32(7), "e": jnp.array(True)}
    tree = {"a": jnp.float32(2), "b": jnp.zeros((0, 4)), "c": nested}
    found = checksums(tree)
    assert set(found) == {"a", "b", "c/d", "c/e"}
    assert found["b"] == 0 and all(0 <= value < 2**32 for value in found.values())
    assert checksums({"a": jnp.float32(-2)})["a"] != found["a"]


def test_checksum_sees_one_bit_and_two_values_exchanged():
    rng = np.random.default_rng(1)
    array = rng.normal(size=(40, 50)).astype(np.float32)
    array[0, 0], array[9, 9] = 1.5, -1.5  # differ in the highest bit alone
    base = checksums([array])
    bits = array.view(np.uint32).reshape(-1)
    for place, bit in zip(rng.integers(bits.size, size=64), list(range(32)) * 2, strict=True):
        changed = bits.copy()
        changed[place] ^= np.uint32(1) << np.uint32(bit)
        assert checksums([changed.view(np.float32).reshape(array.shape)]) != base
    for first, second in [(0, 9 * 50 + 9), (0, 1), (3, 1999), (128, 640)]:
        changed = array.reshape(-1).copy()
        changed[[first, second]] = changed[[second, first]]
        assert checksums([changed.reshape(array.shape)]) != base


def test_checksum_tells_negative_zero_and_nan_payloads_apart():
    bits = [0x00000000, 0x80000000, 0x7FC00000, 0x7FC00001]
    sums = {checksums([np.array([b], np.uint32).view(np.float32)])["0"] for b in bits}
    assert len(sums) == 4


def test_checksum_refuses_what_jax_would_narrow():
    with pytest.raises(TypeError, match="32 bits"):
        checksums({"a": np.ones(3)})
    with pytest.raises(TypeError, match="32 bits"):
        checksums({"a": 3})


def test_a_name_with_a_slash_is_refused():
    with pytest.raises(ValueError, match="slash"):
        checksums({"a/b": jnp.float32(1), "a": {"b": jnp.float32(2)}})
