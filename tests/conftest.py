"""Eight fake CPU devices for every test, set before jax is imported."""

import os
import signal
from importlib import metadata

import pytest

FLAGS = [
    "--xla_force_host_platform_device_count=8",
    # The suite's time is compile time: models are tiny, so slow code is fast enough.
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    # Eight devices on two busy cores meet late: after 40 seconds the process would be ended.
    "--xla_cpu_collective_call_terminate_timeout_seconds=600",
]
# Later versions have no other way to compile a fusion and end the process at an unknown flag.
if metadata.version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # 11.7 to 4.2 CPU seconds for a train step
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()

# In the background of a shell (`make test &`) Ctrl-C is ignored, by what is started from there too.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Folders whose files take minutes: where several processes share the suite they begin with these,
# so that none is left alone with one of them at the end.
SLOW_FIRST = (
    *("training", "integration", "lab", "workers", "reports"),
    *("commands", "models", "generation"),
)


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        folder = item.path.parent.name
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=place)  # stable: the order within a folder stays


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_file():
    """Compiled programs are forgotten after each file: together they take ten gigabytes."""
    yield
    import jax

    jax.clear_caches()
