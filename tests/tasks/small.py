"""Small tokenizers, models and batches that the tests of the tasks share."""

import functools
import json
from typing import Any

import jax
import numpy as np

from research.data import tokenizer as tokenizers
from research.data.batch import Batch, assemble
from research.data.tokenizer import Tokenizer
from research.models import params as parameters
from research.models import transformer
from research.models.config import ModelConfig
from research.objectives.objective import heads_of
from research.tasks.task import Example, Outputs, Task

SENTENCES = (
    "Ada Lovelace wrote to Charles Babbage in London.",
    "The coastline of Angola is 1,600 km long.",
    "Which natural hazards affect Angola? Heavy rainfall causes flooding on the plateau.",
    "Once upon a time there was a king who had three sons.",
    "Question: what is the capital of the country? Answer: the capital is Luanda.",
)


@functools.cache
def word_pieces() -> Tokenizer:
    """A WordPiece tokenizer that cuts longer words into several pieces."""
    return tokenizers.train_wordpiece(SENTENCES, 160)


@functools.cache
def two_separators() -> Tokenizer:
    """`word_pieces` with RoBERTa's frame around a pair."""
    frame = {"type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": False}
    frame |= {"sep": ["[SEP]", word_pieces().sep], "cls": ["[CLS]", word_pieces().cls]}
    values = json.loads(word_pieces().to_json()) | {"post_processor": frame}
    return Tokenizer.from_json(json.dumps(values))


@functools.cache
def byte_pairs() -> Tokenizer:
    """A byte-level BPE tokenizer."""
    return tokenizers.train_byte_bpe(SENTENCES, 300)


def encoder(tokenizer: Tokenizer, length: int = 64) -> ModelConfig:
    """A BERT of one layer, 8 wide."""
    return ModelConfig(
        vocab_size=tokenizer.vocab_size,
        layers=1,
        width=8,
        mlp_width=16,
        max_positions=length,
        token_types=2,
        norm_place="post",
        embedding_norm=True,
    )


def decoder(tokenizer: Tokenizer, length: int = 64, **changes: Any) -> ModelConfig:
    """A GPT-2 of one layer, 8 wide."""
    return ModelConfig(
        vocab_size=tokenizer.vocab_size,
        layers=1,
        width=8,
        mlp_width=16,
        max_positions=length,
        **changes,
    )


def linear_head(name: str, classes: int) -> dict:
    """Params of a classifier whose logits are the hidden states themselves."""
    output = {"kernel": np.eye(classes, dtype=np.float32), "bias": np.zeros(classes, np.float32)}
    return {"heads": {name: {"output": output}}}


def rows_of(
    task: Task, examples: list[Example], packed: bool = True
) -> tuple[Batch, list[tuple[int, int, int]]]:
    """A batch with a row for each segment, and (example, row, segment) of each.

    Packed, rows are filled one after the other and the last ones stay empty.
    """
    segments = [s for i, e in enumerate(examples) for s in task.segments(e, i, True)]
    rows: list[list] = [[]]
    for segment in segments:
        full = sum(map(len, rows[-1])) + len(segment) > task.layout.length
        if rows[-1] and (full or not packed or len(rows[-1]) == task.layout.segments):
            rows.append([])
        rows[-1].append(segment)
    rows += [[]] * (len(segments) - len(rows))
    batch = assemble(rows, task.layout, pad=0)
    batch["rows"] = np.arange(len(rows), dtype=np.int32)
    return batch, [(s.example, r, i) for r, row in enumerate(rows) for i, s in enumerate(row)]


def packed_and_alone(
    task: Task, model: ModelConfig, examples: list[Example]
) -> list[tuple[dict[str, float], list[list[Outputs]]]]:
    """A new model on a packed batch and on one with each segment alone.

    For both: the counts, and for each example the token outputs of its segments.
    """
    draw = np.random.default_rng(0)  # no compilation, as the real initialisation would need
    params = jax.tree.map(
        lambda leaf: draw.normal(0.0, 0.3, leaf.shape).astype(np.float32),
        parameters.shapes(model, heads_of((task,), model)),
    )

    @jax.jit
    def measure(params: Any, batch: Batch) -> tuple[dict, dict]:
        hidden = transformer.apply(params["backbone"], model, batch, task.pattern)
        counts = task.loss(params, model, hidden, batch, None)[1]
        return counts, task.outputs(params, model, hidden, batch)["token"]

    made = []
    for packed in (True, False):
        batch, places = rows_of(task, examples, packed)
        counts, found = jax.device_get(measure(params, batch))
        outputs: list[list[Outputs]] = [[] for _ in examples]
        for example, r, s in places:
            here = slice(batch["first"][r, s], batch["last"][r, s] + 1)
            outputs[example].append({k: v[r, here] for k, v in found.items()})
        made.append(({k: float(v) for k, v in counts.items()}, outputs))
    rows = [{r for _, r, _ in rows_of(task, examples, packed)[1]} for packed in (True, False)]
    assert len(rows[0]) < len(rows[1]), "some segments must share a row"
    return made


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))
