"""Makes steps.json: what three train steps of each kind of run give.

    python -m tests.golden.make

Only for a change that is meant to change these numbers; the commit says which and why.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.data.loader import device_batch
from research.models import params as parameters
from research.run.run import Run, build
from research.run.step import State
from tests import helpers

FILE = Path(__file__).with_name("steps.json")
KINDS = {"masked_lm+next_sentence": "bert", "causal_lm": "gpt", "sentiment": "sentiment"}
STEPS = 3


def make_run(kind: str, folder: Path) -> Run:
    """A tiny run on one device, with dropout and two micro-batches."""
    return build(helpers.run_config(kind, folder, steps=8), jax.devices()[:1], quiet=True)


def start(run: Run) -> State:
    """A state that no compiled initialisation is needed for."""
    params = helpers.new_params(run.model, run.objectives)
    state = State(jnp.zeros((), jnp.int32), params, run.optimizer.init(params))
    return jax.device_put(state, run.state_shardings)


def numbers(run: Run) -> dict[str, Any]:
    """Of each step its data (a sum over all arrays), loss and gradient norm; of the params after
    the last one two sums for each module."""
    found: dict[str, Any] = {"steps": [], "params": {}}
    state = start(run)
    for step in range(STEPS):
        batch = device_batch(run.train, step, run.batch_sharding)
        data = sum(
            float(np.sum(np.float64(x) * (1 + np.arange(x.size).reshape(x.shape) % 97)))
            for x in map(np.asarray, batch.values())
        )
        state, metrics = run.train_step(state, batch)
        made = {name: float(metrics[name]) for name in ("loss", "gradient_norm")}
        found["steps"].append({"data": data} | made)
    for path, leaf in parameters.by_path(state.params).items():
        module = "/".join(path.split("/")[:3])
        x = np.float64(leaf)
        sums = found["params"].setdefault(module, [0.0, 0.0])
        sums[0] += float(np.sum(x * np.cos(np.arange(x.size)).reshape(x.shape)))
        sums[1] += float(np.sum(x**2))
    return found


def main() -> None:
    """Writes the file anew."""
    found = {}
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = numbers(make_run(kind, Path(folder)))
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
