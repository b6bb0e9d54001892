"""BERT: masked LM with 80/10/10 masking and next sentence prediction on the bundled corpora.

    python launch.py train --config=configs/pretrain/bert.py:size=tiny --workdir=runs/bert_tiny
"""

from ml_collections import ConfigDict

from research.config import arguments

CORPUS = (
    # The documents that the bundled entity set is tested on are never pre-trained on.
    dict(
        name="bundled:corpus/brown",
        exclude=(
            "bundled:named_entities/brown_validation",
            "bundled:named_entities/brown_test",
        ),
    ),
    dict(name="bundled:corpus/state_of_the_union"),
    dict(name="bundled:corpus/jane_austen"),
    dict(name="bundled:corpus/moby_dick"),
    dict(name="bundled:corpus/factbook_background"),
)


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: size (tiny, mini, small, medium, base, large), nsp."""
    a = arguments(arg, size="base", nsp=True)
    small = a.size in ("tiny", "mini")
    return ConfigDict(
        dict(
            tokenizer=dict(kind="wordpiece", vocab_size=8192 if small else 30_522),
            data=dict(corpus=CORPUS, length=128 if small else 512),
            model=dict(preset=f"bert_{a.size}"),
            objective=dict(masked_lm=dict(), next_sentence=dict() if a.nsp else None),
            optimizer=dict(learning_rate=1e-3 if small else 1e-4),
            train=dict(batch_size=4096 if small else 131_072, steps=1000, eval_every=500),
        )
    )
