"""Eight fake CPU devices for every test, set before jax is imported."""

import os
import signal

import pytest

FLAGS = (
    "--xla_force_host_platform_device_count=8",
    # The suite's time is compile time: models are tiny, so slow code is fast enough.
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()

# In the background of a shell (`make test &`) Ctrl-C is ignored, by what is started from there too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_file():
    """Compiled programs are forgotten after each file: together they take ten gigabytes."""
    yield
    import jax

    jax.clear_caches()
