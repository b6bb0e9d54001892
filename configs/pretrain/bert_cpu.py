"""A BERT for two CPU cores, 3 M parameters: the config of the shipped checkpoint.

    python launch.py train --config=configs/pretrain/bert_cpu.py --workdir=runs/bert_cpu

BERT's objectives on a backbone that learns more from few tokens: ModernBERT's class (norms before
the layers, rotary positions, gated MLP, no dropout), 30 % of the tokens masked, small batches.
4,500 steps took 103 minutes of a core shared with other work, and reached a held-out masked
accuracy of 0.367 (at 15 %). It did not learn next sentence prediction (docs/results.md).
"""

from ml_collections import ConfigDict

from configs.pretrain.bert import CORPUS, HELD_OUT
from research.config import arguments

# The reviews' training sentences, without labels: the only opinions in the corpus.
REVIEWS = dict(name="bundled:sentiment/customer_reviews_train", exclude=HELD_OUT)


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: steps, of 2,048 tokens each."""
    a = arguments(arg, steps=4500)
    return ConfigDict(
        dict(
            tokenizer=dict(kind="wordpiece", vocab_size=6144),
            data=dict(corpus=(*CORPUS, REVIEWS), length=128),
            model=dict(
                preset="modernbert_base",
                layers=4,
                width=192,
                heads=3,
                mlp_width=512,
                max_positions=512,
                window=0,
                rope_base=10_000.0,
            ),
            objective=dict(masked_lm=dict(rate=0.3), next_sentence=dict()),
            optimizer=dict(learning_rate=2e-3, b2=0.98),
            train=dict(batch_size=2048, steps=a.steps, eval_every=500, checkpoint_every=500),
        )
    )
