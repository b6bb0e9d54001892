"""Collectives of a compiled program, by the mesh axes they go over."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from research.lab.planning import collectives, hlo
from research.lab.planning.collectives import Collective
from research.sharding.mesh import MeshConfig, make_mesh

MESH = dict(data=2, fsdp=2, tensor=2)
ROW = 1024 * 4  # bytes


def compiled(function, out, *specs):
    mesh = make_mesh(MeshConfig(**MESH))
    places = [NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs]
    given = [jax.ShapeDtypeStruct((8, 1024), jnp.float32, sharding=place) for place in places]
    made = jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec(*out)))
    return collectives.collectives(hlo.parse(made.lower(*given).compile().as_text()), mesh)


@pytest.mark.smoke
@pytest.mark.parametrize("axes", [("data",), ("tensor",), ("fsdp", "tensor"), ("data", "tensor")])
def test_a_gather_names_its_axes(axes):
    found = compiled(lambda x: x * 2, (None, None), (axes, None))
    assert found == [Collective("all-gather", axes, 1, 8 * ROW)]


def test_a_sum_over_all():
    found = compiled(lambda x: jnp.sum(x, 0), (), (("data", "fsdp", "tensor"), None))
    assert found == [Collective("all-reduce", ("data", "fsdp", "tensor"), 1, ROW)]


def test_sent_to_a_neighbour():
    def shift(x):
        spec = PartitionSpec("fsdp")
        move = [(0, 1), (1, 0)]
        inner = jax.shard_map(
            lambda x: jax.lax.ppermute(x, "fsdp", move), in_specs=spec, out_specs=spec
        )
        return inner(x)

    with jax.set_mesh(make_mesh(MeshConfig(**MESH))):
        found = compiled(shift, ("fsdp", None), ("fsdp", None))
    assert found == [Collective("collective-permute", ("fsdp",), 1, 4 * ROW)]


def test_within_a_loop_as_often_as_it_runs():
    def loop(x):
        def body(x, _):
            total = jax.lax.with_sharding_constraint(jnp.sum(x, 0), PartitionSpec())
            return jnp.sin(x + total), None

        return jax.lax.scan(body, x, None, length=6)[0]

    with jax.set_mesh(make_mesh(MeshConfig(**MESH))):
        found = compiled(loop, ("fsdp", None), ("fsdp", None))
    assert found == [Collective("all-reduce", ("fsdp",), 6, 6 * ROW)]


def test_bytes_that_pass_a_device():
    sizes = {"data": 2, "fsdp": 2, "tensor": 2, "slices": 4}
    assert Collective("all-gather", ("data", "fsdp"), 1, 800.0).sent(sizes) == 600
    assert Collective("all-reduce", ("tensor",), 1, 800.0).sent(sizes) == 800
    assert Collective("all-reduce", ("slices",), 1, 800.0).sent(sizes) == 1200
    assert Collective("collective-permute", ("tensor",), 1, 800.0).sent(sizes) == 800


def test_from_slice_to_slice():
    text = """HloModule m
ENTRY %main (a: f32[8,128]) -> token[] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %t = token[] after-all()
  %send = (f32[8,128], u32[], token[]) send(%a, %t), channel_id=3, is_host_transfer=true, FRONT
  ROOT %done = token[] send-done(%send), channel_id=3, is_host_transfer=true
}
"""
    front = 'frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}'
    found = collectives.collectives(
        hlo.parse(text.replace("FRONT", front)), make_mesh(MeshConfig(**MESH))
    )
    assert found == [Collective("all-reduce", ("slices",), 1, ROW)]


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("replica_groups={{0,2},{1,3}}", {0, 2}),
        ("replica_groups=[4,2]<=[8]", {0, 1}),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", {0, 2, 4, 6}),
        ("replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", {0, 2, 4, 6}),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}", {0, 4}),
    ],
)
def test_the_group_of_the_first_device(text, members):
    assert collectives.members(f", channel_id=1, {text}, dimensions={{0}}") == members
