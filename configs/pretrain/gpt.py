"""GPT: causal LM over packed documents, with byte-level BPE, on the bundled corpora.

python launch.py train --config=configs/pretrain/gpt.py:size=tiny --workdir=runs/gpt_tiny
python launch.py generate --checkpoint=runs/gpt_tiny --prompt="The dog wagged its"
python launch.py plan --config=configs/pretrain/gpt.py:size=xl --topology=v5e:16x16 \\
    --config.mesh.data=4 --config.mesh.fsdp=64

From small on it computes in bfloat16 and without dropout, which suits one pass over much text and
which fused attention needs. xl is sharded over all devices; its width of 1,600 is divisible by 64,
not by 256.
"""

from ml_collections import ConfigDict

from configs.pretrain.bert import CORPUS
from research.config import arguments


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: size (tiny, mini, small, medium, large, xl)."""
    a = arguments(arg, size="small")
    small, large = a.size in ("tiny", "mini"), a.size in ("medium", "large", "xl")
    model = dict(preset=f"gpt2_{a.size}")
    if not small:
        model |= dict(dtype="bfloat16", dropout=0.0, attention_dropout=0.0)
    if large:
        model["remat"] = "dots"
    batch = 4096 if small else 524_288 if large else 131_072
    return ConfigDict(
        dict(
            tokenizer=dict(kind="byte_bpe", vocab_size=8192 if small else 50_257),
            data=dict(corpus=CORPUS, length=128 if small else 1024),
            model=model,
            objective=dict(causal_lm=dict()),
            optimizer=dict(learning_rate=1e-3 if small else 2.5e-4),
            train=dict(batch_size=batch, steps=1000, eval_every=500),
            mesh=dict(data=1, fsdp=-1) if a.size == "xl" else dict(),
        )
    )
