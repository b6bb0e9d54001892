"""BERT: masked LM with 80/10/10 masking and next sentence prediction on the bundled corpora.

    python launch.py train --config=configs/pretrain/bert.py:size=tiny --workdir=runs/bert_tiny
    python launch.py plan --config=configs/pretrain/bert.py:size=large --topology=v5e:4x4

From base on it computes in bfloat16, for accelerators. large recomputes everything but its products
with weights in the backward pass, and is sharded over all devices.
"""

from ml_collections import ConfigDict

from research.config import arguments
from research.data import bundled

BOOKS = ("brown", "state_of_the_union", "jane_austen", "moby_dick", "factbook_background")
# Held-out texts of the bundled tasks are excluded from every corpus.
HELD_OUT = tuple(
    f"bundled:{name}" for name in bundled.names() if name.endswith(("_validation", "_test"))
)
CORPUS = tuple(dict(name=f"bundled:corpus/{book}", exclude=HELD_OUT) for book in BOOKS)


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: size (tiny, mini, small, medium, base, large), nsp."""
    a = arguments(arg, size="base", nsp=True)
    small, large = a.size in ("tiny", "mini"), a.size in ("base", "large")
    model = dict(preset=f"bert_{a.size}")
    if large:
        model["dtype"] = "bfloat16"
    if a.size == "large":
        model["remat"] = "dots"
    return ConfigDict(
        dict(
            tokenizer=dict(kind="wordpiece", vocab_size=8192 if small else 30_522),
            data=dict(corpus=CORPUS, length=128 if small else 512),
            model=model,
            objective=dict(masked_lm=dict(), next_sentence=dict() if a.nsp else None),
            optimizer=dict(learning_rate=1e-3 if small else 1e-4),
            train=dict(batch_size=4096 if small else 131_072, steps=1000, eval_every=500),
            mesh=dict(data=1, fsdp=-1) if a.size == "large" else dict(),
        )
    )
