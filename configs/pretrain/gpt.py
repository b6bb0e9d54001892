"""GPT: causal LM over packed documents, with byte-level BPE, on the bundled corpora.

python launch.py train --config=configs/pretrain/gpt.py:size=tiny --workdir=runs/gpt_tiny
python launch.py generate --checkpoint=runs/gpt_tiny --prompt="The dog wagged its"
"""

from ml_collections import ConfigDict

from configs.pretrain.bert import CORPUS
from research.config import arguments


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: size (tiny, mini, small, medium, large, xl)."""
    a = arguments(arg, size="small")
    small = a.size in ("tiny", "mini")
    return ConfigDict(
        dict(
            tokenizer=dict(kind="byte_bpe", vocab_size=8192 if small else 50_257),
            data=dict(corpus=CORPUS, length=128 if small else 1024),
            model=dict(preset=f"gpt2_{a.size}"),
            objective=dict(causal_lm=dict()),
            optimizer=dict(learning_rate=1e-3 if small else 2.5e-4),
            train=dict(batch_size=4096 if small else 131_072, steps=1000, eval_every=500),
        )
    )
