"""Builds a pre-training run on random rows instead of its data, for planning or timing."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from research.config import Config
from research.data import tokenizer as tokenizers
from research.data.batch import Batch, Layout, empty
from research.data.loader import Batches
from research.draws import generator
from research.models import config as model_config
from research.objectives import make_objectives
from research.objectives.objective import row_layout
from research.run import corpus
from research.run import run as runs
from research.run.manifest import check_length
from research.run.run import Run
from research.sharding import mesh as meshes

STEPS = 1000  # length of the schedule if that of the run is not known


@dataclasses.dataclass(frozen=True)
class SyntheticBatches(Batches):
    """Full rows of random tokens, one segment each; every step gets the same batch."""

    rows: int
    layout: Layout
    vocab_size: int

    def batch(self, step: int, start: int = 0, end: int | None = None) -> Batch:
        """Returns rows `start` to `end`, in which every position counts."""
        end = self.rows if end is None else end
        layout, rows = self.layout, end - start
        draw = generator("synthetic", start, end, layout.length, self.vocab_size)

        def tokens(*shape: int) -> np.ndarray:
            return draw.integers(self.vocab_size, size=shape, dtype=np.int32)

        batch = empty(rows, layout, 0) | {"rows": np.arange(start, end, dtype=np.int32)}
        batch["tokens"] = tokens(rows, layout.length)
        batch["segments"][:] = 1
        batch["positions"][:] = np.arange(layout.length)
        batch["last"][:, 0] = layout.length - 1
        batch["segment_weights"][:, 0] = 1.0
        if layout.predictions:
            places = np.linspace(0, layout.length - 1, layout.predictions).astype(np.int32)
            batch["predict_positions"][:] = places
            batch["predict_targets"] = tokens(rows, layout.predictions)
            batch["predict_weights"][:] = 1.0
        if layout.targets:
            batch["targets"] = tokens(rows, layout.length)
            batch["target_weights"][:] = 1.0
        if layout.bytes:
            batch["target_bytes"][:] = 1.0
        if layout.prefix:
            batch["prefix"][:, : layout.length // 2] = True
        return batch

    def locate(self, step: int) -> tuple[int, int]:
        return 0, step

    def about_epoch_batches(self) -> int:
        return STEPS


def synthetic_run(config: Config, devices: Sequence[jax.Device] | None = None) -> Run:
    """Builds the run of a pre-training config on `devices` (default: all), with random rows as data
    and the config's vocabulary size. Reads nothing and allocates nothing.

    Raises UserError for what does not fit, as `research.run.run.build` does.
    """
    mesh = meshes.make_mesh(config.mesh, devices)
    model = dataclasses.replace(config.model, vocab_size=config.tokenizer.vocab_size)
    model_config.check(model)
    check_length(model, config.data.length)
    objectives = make_objectives(config.objective)
    cycle, multiple = objectives[0].rows[2], meshes.row_multiple(mesh)
    rows = corpus.batch_rows(config.data, config.train, cycle, multiple)
    layout = row_layout(objectives, config.data.length, config.data.segments)
    batches = SyntheticBatches(rows, layout, model.vocab_size)
    parts = SyntheticBatches(rows // config.train.accumulation, layout, model.vocab_size)
    config = dataclasses.replace(config, model=model)
    data = corpus.Data(batches, parts, key="")
    # No text is tokenised, so any tokenizer will do.
    return runs.lay_out(config, tokenizers.byte_tokenizer(), objectives, None, data, mesh)
