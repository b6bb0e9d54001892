"""Random draws that depend on their purpose, not on earlier draws."""

import hashlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """A counter-based generator (Philox; Salmon et al. 2011), keyed by names and numbers.

    The same key gives the same draws on any host, in any process, in any order.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, np.uint64)))
