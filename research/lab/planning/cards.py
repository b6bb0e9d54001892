"""NVIDIA cards as XLA's GPU compiler needs them described, to compile for one that is not there.

The numbers are what a driver reports (compute capability, cores, memory; see `deviceQuery` of the
CUDA samples) and NVIDIA's data sheets of the SXM modules.
"""

import dataclasses

# What all of them have in common.
COMMON = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "threads_per_core_limit": 2048,
    "shared_memory_per_block": 48 * 1024,
    "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535,
    "thread_dim_limit_x": 1024,
    "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64,
}
CUDNN = (9, 10)  # the oldest that the pinned jax takes


@dataclasses.dataclass(frozen=True)
class Card:
    """capability: CUDA compute capability. cores: streaming multiprocessors. shared: bytes of the
    shared memory of one. memory, cache: bytes of the card and of its L2. memory_speed: bytes/s.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    fpus_per_core: int
    shared: int
    cache: int
    memory: int
    memory_speed: float
    clock_ghz: float

    def description(self) -> str:
        """The card as text of the protocol buffer `GpuTargetConfigProto` of XLA."""
        info = COMMON | {
            "core_count": self.cores,
            "fpus_per_core": self.fpus_per_core,
            "shared_memory_per_core": self.shared,
            "shared_memory_per_block_optin": self.shared - 1024,  # the system keeps 1 KiB
            "l2_cache_size": self.cache,
            "device_memory_size": self.memory,
            "memory_bandwidth": int(self.memory_speed),
            "clock_rate_ghz": self.clock_ghz,
        }
        fields = " ".join(f"{key}: {value}" for key, value in info.items())
        major, minor = self.capability
        return (
            f"gpu_device_info {{ {fields} "
            f"cuda_compute_capability {{ major: {major} minor: {minor} }} }} "
            f'platform_name: "CUDA" dnn_version_info {{ major: {CUDNN[0]} minor: {CUDNN[1]} }} '
            f'device_description_str: "{self.name}"'
        )


KIB, MIB = 2**10, 2**20
A100 = Card(
    name="NVIDIA A100-SXM4-80GB",
    capability=(8, 0),
    cores=108,
    fpus_per_core=64,
    shared=164 * KIB,
    cache=40 * MIB,
    memory=85_100_068_864,
    memory_speed=2.039e12,
    clock_ghz=1.41,
)
H100 = Card(
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    cores=132,
    fpus_per_core=128,
    shared=228 * KIB,
    cache=50 * MIB,
    memory=84_942_979_072,
    memory_speed=3.352e12,
    clock_ghz=1.98,
)
H200 = dataclasses.replace(H100, name="NVIDIA H200", memory=151_397_597_184, memory_speed=4.8e12)
B200 = dataclasses.replace(
    H100,
    name="NVIDIA B200",
    capability=(10, 0),
    cores=148,
    cache=132_644_864,
    memory=191_514_411_008,
    memory_speed=7.672e12,
    clock_ghz=1.965,
)
CARDS = {"a100": A100, "h100": H100, "h200": H200, "b200": B200}
