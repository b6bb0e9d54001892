"""Published speeds and memory of TPU chips.

Peak of bfloat16 products and speed of the memory: Google Cloud's pages on each TPU. Speed of a
link: "How to Scale Your Model" (Austin et al. 2025), chapter 2. Memory: the amount that libtpu
reports for a program. No speed was measured here.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """flops: FLOP/s of bfloat16 products; memory: bytes of HBM; memory_speed: its bytes/s; link:
    bytes/s of one link of the torus in both directions; network: bytes/s between slices for each
    chip."""

    flops: float
    memory: float
    memory_speed: float
    link: float
    network: float


CHIPS = {
    "v4": Chip(275e12, 30.75 * GIB, 1.2e12, 9e10, 6.25e9),
    "v5e": Chip(197e12, 15.75 * GIB, 8.2e11, 9e10, 3.125e9),
    "v5p": Chip(459e12, 95.74 * GIB, 2.765e12, 1.8e11, 6.25e9),
    "v6e": Chip(918e12, 31.25 * GIB, 1.64e12, 1.8e11, 12.5e9),
}
