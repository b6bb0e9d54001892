"""Parts of `benchmarks.card` that are whole training runs."""

import itertools
import json
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from research import config as configs
from research.checkpoints.folder import absolute, read_about
from research.config import Config
from research.data import jsonl, sources
from research.training import loop

Case = dict[str, Any]

# The best validation loss of nanoGPT's train_shakespeare_char.py (Karpathy 2022).
SHAKESPEARE_LOSS, SHAKESPEARE_SECONDS = 1.4697, 100
SHAKESPEARE = {
    "tokenizer.kind": "characters",
    "data.length": 256,
    "data.held_out_percent": 2.0,
    "model.layers": 6,
    "model.width": 384,
    "model.heads": 6,
    "model.mlp_width": 1536,
    "model.max_positions": 256,
    "model.bias": False,
    "model.activation": "gelu",
    "model.dropout": 0.2,
    "model.attention_dropout": 0.2,
    "model.dtype": "bfloat16",
    "objective.causal_lm.chunk": 256,
    "optimizer.learning_rate": 1e-3,
    "optimizer.schedule": "cosine",
    "optimizer.end_share": 0.1,
    "optimizer.warmup": 0.02,
    "optimizer.weight_decay": 0.1,
    "optimizer.b2": 0.99,
    "optimizer.epsilon": 1e-8,
    "train.batch_size": 64 * 256,
    "train.steps": 5000,
    "train.eval_every": 250,
    "train.log_every": 250,
}
PIECE = 10_000  # characters of a training document, about


def shakespeare(tiny: bool, texts: str) -> Iterator[Case]:
    """Trains to nanoGPT's validation loss, as `launch.py train` does.

    The text is cut at empty lines into documents of about PIECE characters. Each epoch shuffles the
    documents, so rows begin at new places, as nanoGPT's do.
    """
    if not texts:
        yield {"case": "not run", "error": "--texts=FOLDER was not given"}
        return
    with tempfile.TemporaryDirectory() as folder:
        changes = SHAKESPEARE | {"data.cache": f"{folder}/cache"}
        changes |= {"data.corpus": [f"files:{_corpus(texts, folder)}"]}
        if tiny:
            changes |= {"model.layers": 1, "model.width": 24, "train.batch_size": 2048}
            changes |= {"train.steps": 6, "train.eval_every": 3}
        config = configs.load("configs/pretrain/gpt.py:size=mini", changes)
        yield _trained(config, f"{folder}/run", 600 if tiny else SHAKESPEARE_SECONDS)


def _corpus(texts: str, folder: str) -> str:
    """Writes a file with the training text as documents and the validation text held out."""
    split: dict[str, str] = {}
    for name in ("train", "validation"):
        source = sources.SourceConfig(f"files:{texts}/{name}.jsonl.gz")
        split[name] = "".join(e["text"] for e in sources.read(source, "document"))
    documents, rest = [], split["train"]
    while rest:
        cut = rest.find("\n\n", PIECE) + 2
        cut = cut if cut > 1 else len(rest)
        documents.append(rest[:cut])
        rest = rest[cut:]
    names = (f"t{n}" for n in itertools.count())
    kept = (name for name in names if not sources.held_out(name))
    held = next(f"v{n}" for n in itertools.count() if sources.held_out(f"v{n}"))
    rows = [{"id": held, "text": split["validation"]}]
    rows += [{"id": name, "text": text} for name, text in zip(kept, documents, strict=False)]
    path = f"{folder}/corpus.jsonl"
    jsonl.write(path, rows)
    return path


def _trained(config: Config, workdir: str, limit: float) -> Case:
    """Trains for at most `limit` seconds; returns the losses with their times."""
    stop = threading.Timer(limit, os.kill, (os.getpid(), signal.SIGINT))
    stop.start()
    start = time.time()
    try:
        loop.train(config, workdir)
    except loop.Interrupted:
        pass  # reports what it has reached
    finally:
        stop.cancel()
    seconds = time.time() - start
    events = max(Path(workdir).rglob("*tfevents*"), key=os.path.getsize)
    losses = [
        {
            "step": e.step,
            "seconds": e.wall_time - start,
            "loss": float(tensor_util.make_ndarray(value.tensor)),
        }
        for e in EventFileLoader(str(events)).Load()
        for value in e.summary.value
        if value.tag == "validation/loss"
    ]
    reached = next((x for x in losses if x["loss"] <= SHAKESPEARE_LOSS), None)
    timing = [json.loads(x) for x in Path(workdir, "timing.jsonl").read_text().splitlines()]
    return {
        "case": f"{config.model.layers} x {config.model.width}",
        "wanted": SHAKESPEARE_LOSS,
        "reached": reached,
        "best": min(losses, key=lambda x: x["loss"], default=None),
        "seconds": seconds,
        "tokens_per_second": statistics.median(line["tokens_per_second"] for line in timing),
        "waiting": statistics.median(line["waiting"] for line in timing),
        "losses": losses,
    }


def resumed(tiny: bool, texts: str) -> Iterator[Case]:
    """Repeats the second half of a run, with and without `train.deterministic`: bit-equal?"""
    changes: dict[str, Any] = {
        "data.corpus": ["bundled:corpus/factbook_background"],
        "model.layers": 1,
        "train.batch_size": 2048,
        "train.steps": 20,
        "train.checkpoint_every": 10,
        "train.eval_batches": 1,
        "model.dtype": "bfloat16",
    }
    for fixed in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            overrides = changes | {"train.deterministic": fixed, "data.cache": f"{folder}/cache"}
            config = configs.load("configs/pretrain/bert.py:size=tiny", overrides)
            whole, again = _end(config, folder), _end(config, folder)
            arrays = sum(map(len, whole.values()))
            same = sum(whole[k][path] == again[k][path] for k in whole for path in whole[k])
            yield {"case": f"deterministic={fixed}", "arrays": arrays, "same": same}


def _end(config: Config, folder: str) -> dict[str, dict]:
    """Trains to the last step and deletes that checkpoint; returns its arrays' checksums."""
    loop.train(config, f"{folder}/run", quiet=True)
    last = f"{folder}/run/checkpoints/{config.train.steps}"
    checksums = read_about(absolute(last)).arrays
    shutil.rmtree(last)
    return {kind: checksums[kind] for kind in ("params", "opt_state")}
