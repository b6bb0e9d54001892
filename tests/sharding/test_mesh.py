"""The mesh: sizes, -1, and messages that say what would fit."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from research.errors import UserError
from research.sharding.mesh import (
    MeshConfig,
    batch_sharding,
    make_mesh,
    replicated,
    row_multiple,
)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(data=2, fsdp=-1, tensor=2), (2, 2, 2)),
        (MeshConfig(data=1, fsdp=4, tensor=-1), (1, 4, 2)),
        (MeshConfig(data=-1, fsdp=4, tensor=2), (1, 4, 2)),
        (MeshConfig(data=2, fsdp=4), (2, 4, 1)),
    ],
)
def test_sizes(config, sizes):
    mesh = make_mesh(config)
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert mesh.devices.shape == sizes
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert len({d.id for d in mesh.devices.flat}) == 8


def test_given_devices():
    mesh = make_mesh(MeshConfig(), jax.devices()[:3])
    assert dict(mesh.shape) == {"data": 3, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (
            MeshConfig(data=3),
            ["data=3, fsdp=1, tensor=1", "multiply to 3", "8", "data=8, fsdp=1, tensor=1"],
        ),
        (
            MeshConfig(data=2, fsdp=4, tensor=2),
            ["multiply to 16", "right for 8: data=1, fsdp=4, tensor=2"],
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
