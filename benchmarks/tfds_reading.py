"""Measures reading a TFDS data set of one ArrayRecord file, by single examples and in chunks.

    python -m benchmarks.tfds_reading --examples=60000,400000

Writes a data set of texts of 15 words with labels to a temporary folder. In turn, three times each:

    one at a time   TFDS reads and decodes each example by its number; measured on SAMPLE examples
                    spread over the file
    in chunks       the way of `tfds:` sources: the first 60,000 examples, or all
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from research import cli
from research.data import tfds_source
from research.errors import UserError
from research.verbs import Verb

VERB = Verb(
    "benchmarks.tfds_reading:run",
    "measure reading a TFDS data set, by single examples and in chunks",
    optional={
        "examples": "sizes of the data sets in examples (60000)",
        "folder": "folder for the data sets (a temporary one)",
    },
)
READ, SAMPLE, TURNS = 60_000, 600, 3


class Sentences(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of texts with labels."""

    VERSION = tfds.core.Version("1.0.0")
    examples = READ

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=["bad", "good"])
        features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager: object) -> dict:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator:
        for number in range(self.examples):
            yield number, {"text": f"sentence {number} " + "word " * 13, "label": number % 2}


def run(examples: str = str(READ), folder: str = "") -> int:
    """Measures, and prints a line for each turn."""
    try:
        sizes = [int(text) for text in examples.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < SAMPLE:
        raise UserError(f"--examples={examples} must be numbers from {SAMPLE} up, such as {READ}")
    print("examples   one at a time: ms each   in chunks: ms each   times as fast")
    for size in sizes:
        Sentences.examples = size
        with tempfile.TemporaryDirectory(dir=folder or None) as at:
            builder = Sentences(data_dir=at, file_format="array_record")
            builder.download_and_prepare()
            for _ in range(TURNS):
                slow, fast = _one_at_a_time(builder), _in_chunks(Path(at), min(size, READ))
                print(f"{size:8,} {slow:25.3f} {fast:20.3f} {slow / fast:15.1f}", flush=True)
    return 0


def _one_at_a_time(builder: tfds.core.DatasetBuilder) -> float:
    """Milliseconds per example."""
    source = builder.as_data_source(split="train")
    numbers = np.linspace(0, len(source) - 1, SAMPLE).astype(int).tolist()
    start = time.perf_counter()
    for number in numbers:
        tfds_source._plain(builder.info.features, source[number])
    return (time.perf_counter() - start) / SAMPLE * 1000


def _in_chunks(folder: Path, count: int) -> float:
    """Milliseconds per example."""
    start = time.perf_counter()
    for _ in tfds_source.rows("sentences", "train", str(folder), range(count)):
        pass
    return (time.perf_counter() - start) / count * 1000


if __name__ == "__main__":
    sys.exit(cli.program("benchmarks.tfds_reading", VERB))
