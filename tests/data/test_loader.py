"""Batches on a mesh, read ahead."""

import threading
import time

import jax
import numpy as np
import pytest

from research.data.loader import Ahead, device_batch
from research.sharding.mesh import MeshConfig, batch_sharding, make_mesh
from tests import helpers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = helpers.make_store(tmp_path_factory.mktemp("store"), helpers.word_pieces())
    return helpers.batches(made, helpers.MASKED_AND_NEXT)


class Recorded:
    """Batches that record the requested rows, and fail from a step on."""

    def __init__(self, data, fails_at: int = 10**9):
        self.data, self.fails_at = data, fails_at
        self.asked: list[tuple[int, int, int]] = []

    def batch_rows(self, step):
        return self.data.batch_rows(step)

    def batch(self, step, start=0, end=None):
        if step >= self.fails_at:
            raise OSError(f"no step {step}")
        self.asked.append((step, start, end))
        return self.data.batch(step, start, end)


@pytest.mark.parametrize(
    ("mesh", "spans"),
    [
        (MeshConfig(data=8), 8),
        (MeshConfig(data=2, fsdp=2, tensor=2), 4),
        (MeshConfig(data=1, tensor=8), 1),
    ],
)
def test_each_device_gets_its_rows_and_no_row_is_built_twice(data, mesh, spans):
    recorded = Recorded(data)
    sharding = batch_sharding(make_mesh(mesh))
    found = device_batch(recorded, 3, sharding)
    whole = data.batch(3)
    assert found.keys() == whole.keys()
    for name, array in found.items():
        assert array.sharding.is_equivalent_to(sharding, array.ndim)
        assert np.array_equal(array, whole[name]) and array.dtype == whole[name].dtype
    size = 8 // spans
    assert sorted(recorded.asked) == [(3, i * size, (i + 1) * size) for i in range(spans)]


def single() -> jax.sharding.NamedSharding:
    return batch_sharding(make_mesh(MeshConfig(), jax.devices()[:1]))


def test_batches_come_in_order_from_the_start(data):
    ahead = Ahead(data, 2, 6, single())
    for step in range(2, 6):
        assert np.array_equal(next(ahead)["tokens"], data.batch(step)["tokens"])
    ahead.close()


def test_no_more_is_read_ahead_than_asked(data):
    recorded = Recorded(data)
    ahead = Ahead(recorded, 0, 50, single(), depth=2)
    next(ahead)
    time.sleep(0.5)
    assert len(recorded.asked) <= 4  # one taken, two waiting, one in the hand
    ahead.close()
    assert not [t for t in threading.enumerate() if t is ahead._thread]


def test_an_error_is_raised_where_the_batch_would_have_been(data):
    ahead = Ahead(Recorded(data, fails_at=2), 0, 9, single())
    next(ahead), next(ahead)
    with pytest.raises(OSError, match="no step 2"):
        next(ahead)
    ahead.close()
