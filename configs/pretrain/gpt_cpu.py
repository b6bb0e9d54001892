"""A GPT for two CPU cores, 2.6 M parameters: the config of the shipped checkpoint.

    python launch.py train --config=configs/pretrain/gpt_cpu.py --workdir=runs/gpt_cpu

The backbone is Llama's class. 4,000 steps took 117 minutes of a core shared with other work, and
reached a held-out perplexity of 52.7, 1.523 bits per byte.
"""

from ml_collections import ConfigDict

from configs.pretrain.bert import CORPUS
from research.config import arguments


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: steps, of 2,048 tokens each."""
    a = arguments(arg, steps=4000)
    return ConfigDict(
        dict(
            tokenizer=dict(kind="byte_bpe", vocab_size=4096),
            data=dict(corpus=CORPUS, length=256),
            model=dict(
                preset="smollm2_135m",
                layers=4,
                width=192,
                heads=3,
                kv_heads=3,
                mlp_width=512,
                max_positions=512,
                rope_base=10_000.0,
            ),
            objective=dict(causal_lm=dict()),
            optimizer=dict(learning_rate=2e-3, b2=0.98),
            train=dict(batch_size=2048, steps=a.steps, eval_every=500, checkpoint_every=500),
        )
    )
