"""Writes a small checkpoint to ship: the params of a run's newest step, in bfloat16.

python -m research.lab.ship runs/journey/bert-seed0 research/pretrained/bert
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from research.checkpoints.checkpoint import write_checkpoint
from research.errors import UserError
from research.run.loaded import load_model


def ship(source: str, target: str) -> int:
    """Writes TARGET/STEP and returns its size in bytes. Raises UserError if TARGET exists."""
    if Path(target).exists():
        raise UserError(f"{target} exists; remove it first")
    loaded = load_model(source)
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), loaded.params)
    info = loaded.info
    write_checkpoint(target, info.step, params, info.config, info.tokenizer_json, info.meta)
    return sum(f.stat().st_size for f in Path(target).rglob("*") if f.is_file())


if __name__ == "__main__":
    try:
        print(f"{ship(*sys.argv[1:3]):,} bytes")
    except UserError as error:
        sys.exit(f"error: {error}")
