"""Published speeds and memory of TPU chips and of GPUs. No speed was measured here.

TPU: peak of bfloat16 products and speed of the memory from Google Cloud's pages on each TPU; speed
of a link from "How to Scale Your Model" (Austin et al. 2025), chapter 2; memory is the amount that
libtpu reports for a program. GPU: NVIDIA's data sheets of the SXM modules, dense products; NVLink
in one direction; the network of a DGX machine, one adapter for each GPU; memory is three quarters
of the card, which jax reserves by default.
"""

import dataclasses

from research.lab.planning.cards import A100, B200, H100, H200, Card

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """flops: FLOP/s of bfloat16 products; memory: bytes of HBM; memory_speed: its bytes/s; link:
    bytes/s to neighbours, of one link of a torus in both directions; network: bytes/s between
    slices, or machines with GPUs, for each chip."""

    flops: float
    memory: float
    memory_speed: float
    link: float
    network: float


def _gpu(card: Card, flops: float, link: float, network: float) -> Chip:
    return Chip(flops, 0.75 * card.memory, card.memory_speed, link, network)


CHIPS = {
    "v4": Chip(275e12, 30.75 * GIB, 1.2e12, 9e10, 6.25e9),
    "v5e": Chip(197e12, 15.75 * GIB, 8.2e11, 9e10, 3.125e9),
    "v5p": Chip(459e12, 95.74 * GIB, 2.765e12, 1.8e11, 6.25e9),
    "v6e": Chip(918e12, 31.25 * GIB, 1.64e12, 1.8e11, 12.5e9),
    "a100": _gpu(A100, 312e12, 3e11, 2.5e10),
    "h100": _gpu(H100, 989.4e12, 4.5e11, 5e10),
    "h200": _gpu(H200, 989.4e12, 4.5e11, 5e10),
    "b200": _gpu(B200, 2.25e15, 9e11, 5e10),
}
