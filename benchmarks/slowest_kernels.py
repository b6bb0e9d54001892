"""Sums up a trace of `jax.profiler` by kernel."""

import collections
from pathlib import Path
from typing import Any

from jax.profiler import ProfileData

KERNELS = 25  # to report
KINDS = {  # of kernels -> parts of their names
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma", "cublas", "dot"),
    "copies": ("memcpy", "memset", "copy", "transpose"),
}


def slowest(folder: str, steps: int) -> dict[str, Any] | None:
    """Milliseconds of a step by kind of kernel, and its slowest kernels; None without a GPU.

    Args:
        folder: a trace of `steps` steps, written by `jax.profiler.trace`.
    """
    seconds: collections.Counter[str] = collections.Counter()
    calls: collections.Counter[str] = collections.Counter()
    for file in Path(folder).rglob("*.xplane.pb"):
        for plane in ProfileData.from_file(str(file)).planes:
            if not plane.name.startswith("/device:GPU"):
                continue
            for line in plane.lines:
                if not line.name.startswith("Stream"):
                    continue
                for event in line.events:
                    seconds[event.name] += event.duration_ns / 1e9
                    calls[event.name] += 1
    if not seconds:
        return None
    kinds: collections.Counter[str] = collections.Counter()
    for name, spent in seconds.items():
        kinds[_kind(name)] += spent
    return {
        "kinds": {kind: 1e3 * spent / steps for kind, spent in kinds.most_common()},
        "kernels": [
            {
                "name": name[:120],
                "milliseconds": 1e3 * spent / steps,
                "calls": calls[name] / steps,
            }
            for name, spent in seconds.most_common(KERNELS)
        ],
    }


def _kind(name: str) -> str:
    low = name.lower()
    return next((k for k, words in KINDS.items() if any(w in low for w in words)), "others")
