"""Checksums of arrays that do not depend on the mesh.

For every leaf, the sum over its elements of mix(bits + mix(index)) modulo 2^32, where `bits` are
the element's own bits, `index` its place in the logical (unsharded, row-major) array, and mix is
a bijection of 32-bit words (the finaliser of MurmurHash3, A. Appleby, public domain,
https://github.com/aappleby/smhasher). Addition modulo 2^32 has no order, so any sharding gives
the same number. Since mix is a bijection, one changed element of at most 32 bits always changes
the sum; a plain weight per position would miss, for example, an exchange of x and -x, which
differ in the highest bit alone.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from research.models.params import by_path

Place = tuple[slice, ...]  # a piece's slices of its array

ELEMENTS_AT_ONCE = 1 << 15  # on the host


def checksums(tree: object) -> dict[str, int]:
    """Path ("backbone/embed/tokens") -> checksum, a number below 2^32, for every leaf.

    Leaves are arrays of any rank, real dtype and sharding. Every process of a run must call this
    with the same tree. It waits for the computation that produces the leaves.
    """
    leaves = by_path(tree)
    for leaf in leaves.values():  # jit would silently narrow wider ones
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise TypeError(f"checksums take jax or numpy arrays of at most 32 bits: {leaf!r}")
    # One after the other: CPU devices deadlock when independent programs sum over the mesh at the
    # same time.
    return {path: int(_checksum(leaf)) for path, leaf in leaves.items()}


def checksum_of_pieces(pieces: Iterable[tuple[Place, np.ndarray]], shape: Sequence[int]) -> int:
    """The checksum of an array of this shape, as `checksums` computes it, in numpy from pieces
    that cover the array."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    total = 0
    for place, piece in pieces:
        bits = piece if piece.dtype == bool else piece.view(f"uint{8 * piece.dtype.itemsize}")
        for within in places(piece.shape, _part(piece.shape)):
            words = bits[within].astype(np.uint32)
            index = np.zeros((), np.uint32)
            for start, part, stride in zip(place, within, strides, strict=True):
                offsets = start.start + np.arange(part.start, part.stop, dtype=np.uint64)
                index = index[..., None] + (offsets * stride).astype(np.uint32)
            with np.errstate(over="ignore"):  # numpy warns of it for scalars only
                total += int(np.sum(_mix(words + _mix(index)), dtype=np.uint64))
    return total % 2**32


def places(shape: Sequence[int], step: Sequence[int]) -> Iterator[Place]:
    """The slices that cut an array of this shape into pieces of the shape `step`."""
    for start in itertools.product(*map(range, [0] * len(shape), shape, step)):
        yield tuple(slice(a, min(a + n, end)) for a, n, end in zip(start, step, shape, strict=True))


def _part(shape: Sequence[int]) -> list[int]:
    """The shape of a part that fits into a processor's cache."""
    sizes, room = [], ELEMENTS_AT_ONCE
    for size in reversed(shape):
        sizes.append(max(1, min(size, room)))
        room //= sizes[-1]
    return sizes[::-1]


@jax.jit
def _checksum(leaf: Array) -> Array:
    """The checksum of one leaf: a uint32 scalar."""
    words = _words(leaf)
    index = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    # An iota per dimension, unlike a reshaped range, is made shard by shard.
    for axis in reversed(range(words.ndim)):
        place = lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        index = index + place * np.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return jnp.sum(_mix(words + _mix(index)), dtype=jnp.uint32)


def _words(leaf: Array) -> Array:
    """Each element's bits as uint32 (64-bit elements: two words, in a new last dimension)."""
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    bits = jax.dtypes.itemsize_bits(leaf.dtype)
    if bits == 64:
        return lax.bitcast_convert_type(leaf, jnp.uint32)
    return lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{bits}")).astype(jnp.uint32)


def _mix(word: Array | np.ndarray) -> Array | np.ndarray:
    """MurmurHash3's finaliser, element by element, on uint32."""
    word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
