"""Small texts, models and batches that several test files share."""

import functools
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.config import Config, from_values
from research.data import store, tokenizer
from research.data.sources import SourceConfig
from research.data.store import Store
from research.data.tokenizer import Tokenizer
from research.draws import generator
from research.models import params as parameters
from research.models.config import ModelConfig
from research.objectives import ObjectivesConfig, make_objectives
from research.objectives.batches import PretrainingBatches
from research.objectives.causal_lm import CausalLMConfig
from research.objectives.masked_lm import MaskedLMConfig
from research.objectives.objective import Objective, heads_of
from research.objectives.sentence_pairs import SentencePairsConfig

LENGTH, SEGMENTS = 48, 4
MASKED_AND_NEXT = ObjectivesConfig(MaskedLMConfig(), SentencePairsConfig())
CAUSAL = ObjectivesConfig(causal_lm=CausalLMConfig(chunk=8))
PREFIX = ObjectivesConfig(prefix_lm=CausalLMConfig(chunk=8))
MIXTURE = {  # every kind of attention, of every four rows two with the first
    "masked_lm": {},
    "sentence_order": {},
    "causal_lm": {"chunk": 8},
    "prefix_lm": {"chunk": 8},
    "rows": {"full": 2, "causal": 1, "prefix": 1},
}
END_OF_TEXT = "<|endoftext|>"
LABELS = ("good", "bad", "plain")


def child_environment(devices: int = 1) -> dict[str, str]:
    """That of this process, with which a child has so many devices; it compiles as fast as here."""
    flags = re.sub(r"device_count=\d+", f"device_count={devices}", os.environ["XLA_FLAGS"])
    return os.environ | {"XLA_FLAGS": flags}


@functools.cache
def words() -> tuple[str, ...]:
    """Two hundred made-up words of two to six letters, commoner ones first."""
    draw = generator("words")
    made = {
        "".join(draw.choice(list("aeioumnrstlk"), size=int(draw.integers(2, 7))))
        for _ in range(400)
    }
    return tuple(sorted(made, key=lambda word: (len(word), word))[:200])


def sentence(draw: np.random.Generator) -> str:
    """Two to five words, with a capital and a full stop."""
    known = words()
    chosen = (len(known) * draw.random(int(draw.integers(2, 6))) ** 2).astype(int)
    return " ".join(known[i] for i in chosen).capitalize() + "."


def document(draw: np.random.Generator, sentences: int) -> str:
    """A text of `sentences` sentences, in paragraphs of three."""
    made = [sentence(draw) for _ in range(sentences)]
    return "\n\n".join(" ".join(made[i : i + 3]) for i in range(0, len(made), 3))


def write_corpus(path: Path, documents: int = 60, seed: int = 0) -> str:
    """A JSON Lines file of short documents; returns its source name."""
    draw = generator("corpus", seed)
    rows = [
        {"id": f"d{i}", "title": "", "text": document(draw, int(draw.integers(1, 7)))}
        for i in range(documents)
    ]
    return _write(path, rows)


def write_reviews(path: Path, examples: int, seed: int = 0) -> str:
    """A JSON Lines file of labelled texts of one to three sentences; returns its source name."""
    draw = generator("reviews", seed)
    rows = [
        {
            "id": f"r{i}",
            "text": document(draw, int(draw.integers(1, 4))),
            "label": LABELS[int(draw.integers(3))],
        }
        for i in range(examples)
    ]
    return _write(path, rows)


def _write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"files:{path}"


@functools.cache
def word_pieces() -> Tokenizer:
    """A WordPiece tokenizer of the made-up words; its size is no multiple of 128."""
    draw = generator("tokenizer")
    return tokenizer.train_wordpiece([document(draw, 50) for _ in range(10)], 180)


@functools.cache
def byte_pairs() -> Tokenizer:
    """A byte-level BPE tokenizer of the made-up words."""
    draw = generator("tokenizer")
    return tokenizer.train_byte_bpe([document(draw, 50) for _ in range(10)], 330)


def make_store(folder: Path, tokens: Tokenizer, documents: int = 60) -> Store:
    """The training split of a small corpus, in a cache below `folder`."""
    source = SourceConfig(write_corpus(folder / f"corpus{documents}.jsonl", documents))
    return store.build((source,), "train", 2.0, tokens, str(folder / "cache"), quiet=True)


def batches(
    made: Store, objectives: ObjectivesConfig, rows: int = 8, seed: int = 0, **changes: Any
) -> PretrainingBatches:
    """Rows of LENGTH tokens with the tokenizer that the objectives need."""
    tokens = byte_pairs() if objectives.causal_lm or objectives.prefix_lm else word_pieces()
    given = {"length": LENGTH, "segments": SEGMENTS} | changes
    return PretrainingBatches(
        made, tokens, make_objectives(objectives), rows=rows, seed=seed, **given
    )


def packed_and_padded(
    made: Store, objectives: ObjectivesConfig, rows: int = 8
) -> tuple[PretrainingBatches, int]:
    """Batches and a step whose rows are some packed, some empty, and unequally many predicted."""
    for seed in range(100):
        data = batches(made, objectives, rows, seed)
        last = data.epoch_batches(0) - 1
        segments = data.batch(last)["segments"].max(1)
        if 2 <= (segments == 0).sum() <= rows // 2 and (segments > 1).sum() >= 2:
            return data, last
    raise AssertionError("no such batch")


def bert(**changes: Any) -> ModelConfig:
    """A BERT of two layers, 16 wide, without dropout."""
    return ModelConfig(
        **{
            "vocab_size": word_pieces().vocab_size,
            "width": 16,
            "mlp_width": 32,
            "max_positions": LENGTH,
            "token_types": 2,
            "embedding_norm": True,
            "norm_place": "post",
            "norm_epsilon": 1e-12,
            "activation": "gelu",
            "pooler": True,
            "initializer_range": 0.2,
        }
        | changes
    )


def gpt(**changes: Any) -> ModelConfig:
    """A GPT-2 of two layers, 16 wide, without dropout."""
    return ModelConfig(
        **{
            "vocab_size": byte_pairs().vocab_size,
            "width": 16,
            "mlp_width": 32,
            "max_positions": LENGTH,
            "initializer_range": 0.2,
        }
        | changes
    )


def new_params(model: ModelConfig, objectives: tuple[Objective, ...] = (), seed: int = 0) -> Any:
    """Parameters of a backbone with the objectives' heads, drawn without compiling anything.

    Biases and scales are drawn too, so that none of them can be forgotten unseen.
    """
    shapes = parameters.shapes(model, heads_of(objectives, model))

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        normal = generator("params", seed, path).normal(size=shape)
        return (path.endswith("/scale") + 0.2 * normal).astype(np.float32)

    leaves = [jnp.asarray(draw(p, s.shape)) for p, s in parameters.by_path(shapes).items()]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def pretraining_model(objectives: ObjectivesConfig, **changes: Any) -> tuple[ModelConfig, tuple]:
    """(model, objectives as functions) of the family that the objectives belong to."""
    causal = objectives.causal_lm or objectives.prefix_lm
    model = gpt(**changes) if causal else bert(**changes)
    return model, make_objectives(objectives)


def run_values(kind: str, folder: Path, **train: Any) -> dict[str, Any]:
    """A whole config of a tiny run ("bert", "gpt", "mixture", "sentiment") with dropout and
    accumulation.

    `train` changes the train group. An epoch is a few steps.
    """
    corpus = write_corpus(folder / "corpus.jsonl", 30)
    model = {"width": 16, "mlp_width": 32, "max_positions": LENGTH}
    data: dict[str, Any] = {
        "corpus": [corpus],
        "held_out_percent": 20.0,
        "length": LENGTH,
        "segments": SEGMENTS,
        "cache": str(folder / "cache"),
    }
    common = {"batch_size": 16 * LENGTH, "accumulation": 2, "log_every": 1, "keep": 3}
    values: dict[str, Any] = {
        "seed": 7,
        "data": data,
        "optimizer": {"learning_rate": 3e-3, "warmup": 0.2},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 180},
        "model": model | {"preset": "bert_tiny"},
    }
    if kind == "bert":
        values["objective"] = {"masked_lm": {}, "next_sentence": {}}
    elif kind == "gpt":
        values["objective"] = {"causal_lm": {"chunk": 8}}
        values["tokenizer"] = {"kind": "byte_bpe", "vocab_size": 330}
        values["model"] = model | {"preset": "gpt2_tiny"}
    elif kind == "mixture":
        values["objective"] = MIXTURE
        values["tokenizer"]["add_tokens"] = (END_OF_TEXT,)
    else:
        values["task"] = {"name": "sequence_classification", "labels": LABELS}
        data["train"] = write_reviews(folder / "train.jsonl", 60)
        data["validation"] = write_reviews(folder / "validation.jsonl", 20, seed=1)
        common["batch_size"] = 32
    return values | {"train": common | train}


def run_config(kind: str, folder: Path, **train: Any) -> Config:
    """`run_values` as a checked config."""
    return from_values(run_values(kind, folder, **train))


def bytes_of(tree: Any) -> int:
    """Bytes of all arrays (or shapes) in a tree."""
    return sum(math.prod(x.shape) * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def worst(a: Any, b: Any) -> tuple[float, str]:
    """The largest difference of two trees relative to the leaf's largest entry, and where.

    Leaves that are nothing but rounding errors beside the largest one are measured against it.
    """
    from_a, from_b = (parameters.by_path(jax.device_get(tree)) for tree in (a, b))
    assert from_a.keys() == from_b.keys()
    floor = 1e-3 * max(float(np.abs(x).max()) for x in from_a.values())
    found = []
    for path, x in from_a.items():
        difference = np.abs(np.float64(x) - np.float64(from_b[path])).max()
        found.append((float(difference / max(np.abs(x).max(), floor)), path))
    return max(found)


def identical(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure, dtypes and bits."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(
        np.asarray(x).dtype == np.asarray(y).dtype
        and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in pairs
    )
