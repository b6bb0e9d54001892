"""Measures memory and time of reading batches from token stores of growing size.

    python -m benchmarks.loader --gigabytes=0.1,1
    python -m benchmarks.loader --gigabytes=0.1,10 --folder=/data/scratch

The stores hold random tokens in documents of 100 to 1,100 tokens, and are deleted afterwards. Rows
are of a causal LM, 32 of 1,024 tokens per batch. For each store:

    first batch   seconds from opening the store
    memory        peak of the process while reading, above its memory before: its own (heap), and
                  mapped pages of the store's files, which the kernel may take back
    counting      seconds to count the rows of a whole epoch; needed for `train.epochs` and to
                  resume far inside an epoch, unless an earlier run has left the counts
    resuming      seconds to the batch at 90 % of the epoch with those counts
"""

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from research import cli
from research.data import block as blocks
from research.data import checksums
from research.data import tokenizer as tokenizers
from research.data.store import Store
from research.draws import generator
from research.errors import UserError
from research.objectives import ObjectivesConfig, make_objectives
from research.objectives.batches import PretrainingBatches
from research.objectives.causal_lm import CausalLMConfig
from research.verbs import Verb

VERB = Verb(
    "benchmarks.loader:run",
    "measure memory and time of reading batches from token stores of growing size",
    optional={"gigabytes": "sizes of the stores (0.1,1)", "folder": "folder for the stores (.)"},
)
TOKENS = 1 << 20  # per block, about 4 MiB of text
DOCUMENTS = 1700  # per block
LENGTH, ROWS, BATCHES = 1024, 32, 200


def run(gigabytes: str = "0.1,1", folder: str = ".") -> int:
    """Measures, and prints a line for each store."""
    try:
        sizes = [float(text) for text in gigabytes.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) <= 0:
        raise UserError(f"--gigabytes={gigabytes} must be sizes of stores, such as 0.1,1")
    free = shutil.disk_usage(folder).free / 1e9
    if max(sizes) > 0.8 * free:
        raise UserError(f"{folder} has {free:.1f} GB free: --gigabytes={gigabytes} is too much")
    print("store GB  blocks  tokens M  first batch s  heap MB  mapped MB  counting s  resuming s")
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as at:
            store = write(Path(at), size * 1e9)
            # In a new process: this one still holds memory of the writing.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                print("  ".join(pool.submit(measure, store).result()), flush=True)
    return 0


def write(folder: Path, size: float) -> Store:
    """Writes a store of about `size` bytes in blocks of TOKENS random tokens."""
    count, stored = 0, 0
    while stored < size:
        draw = generator("loader", count)
        lengths = draw.integers(100, 1100, DOCUMENTS)
        documents = np.concatenate([[0], np.cumsum(lengths)])
        documents = np.concatenate([documents[documents < TOKENS], [TOKENS]])
        arrays = (
            draw.integers(2, 258, TOKENS, dtype=np.uint32),
            np.ones(TOKENS, bool),
            documents,
            documents,
            np.arange(len(documents)),
            np.zeros(len(documents) - 1, np.int32),
        )
        checksums.save_arrays(
            folder / f"block_{count:05d}", dict(zip(blocks.ARRAYS, arrays, strict=True))
        )
        count, stored = count + 1, stored + sum(array.nbytes for array in arrays)
    (folder / "arrangement").mkdir()
    np.save(folder / "arrangement" / "bytes.npy", np.full(count, TOKENS))  # a token is a byte
    counts = {"blocks": count, "tokens": count * TOKENS, "bytes": stored}
    return Store(folder, "", counts)


def measure(store: Store) -> list[str]:
    """Reads batches of a store; returns the columns of its line."""
    before = np.array(memory())
    start = time.perf_counter()
    data = opened(store)
    data.batch(0)
    first = time.perf_counter() - start
    most = np.array(memory())

    def read(steps: Iterable[int]) -> None:
        for step in steps:
            data.batch(step)
            most[:] = np.maximum(most, memory())

    read(range(BATCHES))
    start = time.perf_counter()
    batches = data.epoch_batches(0)
    counting = time.perf_counter() - start
    read(range(max(0, batches - BATCHES), batches + 1))
    heap, mapped = most - before
    start = time.perf_counter()
    opened(store).batch(int(0.9 * batches))
    resuming = time.perf_counter() - start
    return [
        f"{store.counts['bytes'] / 1e9:8.1f}",
        f"{store.blocks:6,}",
        f"{store.counts['tokens'] / 1e6:8,.0f}",
        f"{first:13.2f}",
        f"{heap:7,.0f}",
        f"{mapped:9,.0f}",
        f"{counting:10.1f}",
        f"{resuming:10.2f}",
    ]


def opened(store: Store) -> PretrainingBatches:
    objectives = make_objectives(ObjectivesConfig(causal_lm=CausalLMConfig()))
    tokenizer = tokenizers.byte_tokenizer()
    return PretrainingBatches(store, tokenizer, objectives, LENGTH, 16, ROWS, seed=0)


def memory() -> tuple[float, float]:
    """Memory of this process in MB: (its own, mapped files). Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return int(values["RssAnon"]) / 1e3, int(values["RssFile"]) / 1e3


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.loader", VERB))
