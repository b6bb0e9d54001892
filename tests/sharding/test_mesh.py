"""The mesh: sizes, -1, and messages that say what would fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from research.errors import UserError
from research.sharding.constrain import constrain
from research.sharding.mesh import (
    MeshConfig,
    batch_sharding,
    check_length,
    make_mesh,
    replicated,
    row_multiple,
    use,
)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (MeshConfig(), (8, 1, 1, 1)),
        (MeshConfig(data=2, fsdp=-1, tensor=2), (2, 2, 1, 2)),
        (MeshConfig(data=1, fsdp=4, tensor=-1), (1, 4, 1, 2)),
        (MeshConfig(data=-1, fsdp=4, tensor=2), (1, 4, 1, 2)),
        (MeshConfig(data=2, fsdp=4), (2, 4, 1, 1)),
        (MeshConfig(context=4), (2, 1, 4, 1)),
    ],
)
def test_sizes(config, sizes):
    mesh = make_mesh(config)
    assert mesh.axis_names == ("data", "fsdp", "context", "tensor")
    assert mesh.devices.shape == sizes
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert len({d.id for d in mesh.devices.flat}) == 8


def test_given_devices():
    mesh = make_mesh(MeshConfig(), jax.devices()[:3])
    assert dict(mesh.shape) == {"data": 3, "fsdp": 1, "context": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (
            MeshConfig(data=3),
            [
                "data=3, fsdp=1, context=1, tensor=1",
                "multiply to 3",
                "8",
                "data=8, fsdp=1, context=1, tensor=1",
            ],
        ),
        (
            MeshConfig(data=2, fsdp=4, tensor=2),
            ["multiply to 16", "right for 8: data=1, fsdp=4, context=1, tensor=2"],
        ),
        (MeshConfig(tensor=3), ["data=-1", "multiply to 3", "tensor=1"]),
        (MeshConfig(data=-1, fsdp=-1), ["only one", "data and fsdp"]),
        (MeshConfig(fsdp=0), ["mesh.fsdp=0", "-1"]),
        (MeshConfig(tensor=-2), ["mesh.tensor=-2"]),
    ],
)
def test_wrong_sizes(config, parts):
    with pytest.raises(UserError) as error:
        make_mesh(config)
    for part in parts:
        assert part in str(error.value)


def test_example_in_message_fits():
    with pytest.raises(UserError) as error:
        make_mesh(MeshConfig(data=5, fsdp=6, tensor=4))
    right = str(error.value).split("right for 8: ")[1]
    sizes = dict(part.split("=") for part in right.split(", "))
    make_mesh(MeshConfig(**{axis: int(size) for axis, size in sizes.items()}))


def test_rows_are_split_over_data_and_fsdp():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    assert row_multiple(mesh) == 4
    rows = jax.device_put(np.arange(8).reshape(8, 1), batch_sharding(mesh))
    assert {s.data.shape for s in rows.addressable_shards} == {(2, 1)}
    assert len({s.index[0].start for s in rows.addressable_shards}) == 4
    assert replicated(mesh).spec == PartitionSpec()
    assert jax.device_put(np.ones(3), replicated(mesh)).is_fully_replicated


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device of a slice, with the attributes that a mesh needs."""

    id: int
    slice_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"
    process_index: int = 0


def slices_of(config: MeshConfig, count: int = 2) -> np.ndarray:
    chips = [Chip(i, i // (16 // count)) for i in range(16)]
    mesh = make_mesh(config, chips)
    return np.vectorize(lambda chip: chip.slice_index)(mesh.devices)


def test_only_data_crosses_from_slice_to_slice():
    found = slices_of(MeshConfig(data=2, fsdp=4, tensor=2))
    assert found.shape == (2, 4, 1, 2)
    assert (found[0] == 0).all() and (found[1] == 1).all()


def test_fsdp_crosses_where_data_is_too_small():
    found = slices_of(MeshConfig(data=1, fsdp=8, tensor=2))
    assert (found[:, :4] == 0).all() and (found[:, 4:] == 1).all()
    found = slices_of(MeshConfig(data=2, fsdp=4, tensor=2), count=4)
    assert (found[0, :2] == 0).all() and (found[1, 2:] == 3).all()


def test_slices_that_neither_divides():
    with pytest.raises(UserError, match="data=1 x mesh.fsdp=1 does not divide by the 2 slices"):
        slices_of(MeshConfig(data=1, context=8, tensor=2))


def test_length_has_to_divide():
    config = MeshConfig(data=1, context=4, tensor=2)
    mesh = make_mesh(config)
    check_length(config, mesh.shape, 12)
    with pytest.raises(UserError, match="length=10 does not divide by 4.*mesh.context=4"):
        check_length(config, mesh.shape, 10)
    between = dataclasses.replace(config, sequence=True)
    with pytest.raises(UserError, match="by 8.*mesh.context=4 and mesh.tensor=2 .mesh.sequence"):
        check_length(between, mesh.shape, 12)


def placed(config: MeshConfig, *axes: str | None):
    """The sharding of an array [8, 8, 8] after a constraint on its axes."""
    with use(make_mesh(config), config):
        x = jax.jit(lambda: constrain(jnp.zeros((8, 8, 8)), *axes))()
    return x.sharding.shard_shape(x.shape)


def test_activations_follow_the_config():
    whole = MeshConfig(data=1, fsdp=2, context=2, tensor=2)
    assert placed(whole, "rows", "length", "heads") == (4, 4, 4)
    assert placed(whole, "rows", "stream", None) == (4, 4, 8)
    between = dataclasses.replace(whole, sequence=True)
    assert placed(between, "rows", "stream", None) == (4, 2, 8)
    assert placed(between, "rows", "length", None) == (4, 4, 8)
    without = dataclasses.replace(whole, rules={"heads": None, "mlp": "fsdp"})
    assert placed(without, "rows", "length", "heads") == (4, 4, 8)
    assert placed(without, "rows", None, "mlp") == (4, 8, 8)
