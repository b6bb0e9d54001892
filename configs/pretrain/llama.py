"""Causal LM of Llama's shape: RoPE, RMSNorm, gated MLP, no biases, grouped heads in 70b.

python launch.py plan --config=configs/pretrain/llama.py:size=7b --topology=v5p:4x4x4
python launch.py train --config=configs/pretrain/llama.py:size=135m --workdir=runs/llama

135m is SmolLM2's shape, with its tied embeddings. The bundled corpora are a placeholder for yours:
they have 5 million tokens, and a batch of the two large sizes has 4 million. Weights and optimizer
state are sharded over all devices. With several slices, set config.mesh.fsdp to the devices of one
slice and config.mesh.data to the number of slices: each slice then has a copy. No size was trained
here; 7b was planned (docs/scaling.md).
"""

from ml_collections import ConfigDict

from configs.pretrain.bert import CORPUS
from research.config import arguments

PRESETS = {"135m": "smollm2_135m", "7b": "llama_7b", "70b": "llama_70b"}


def get_config(arg: str = "") -> ConfigDict:
    """Arguments: size (135m, 7b, 70b)."""
    a = arguments(arg, size="135m")
    small = a.size == "135m"
    return ConfigDict(
        dict(
            tokenizer=dict(kind="byte_bpe", vocab_size=49_152 if small else 32_000),
            data=dict(corpus=CORPUS, length=2048 if small else 4096),
            model=dict(preset=PRESETS.get(a.size, a.size), dtype="bfloat16", remat="block"),
            objective=dict(causal_lm=dict(chunk=512)),
            optimizer=dict(
                learning_rate={"135m": 1e-3, "70b": 1.5e-4}.get(a.size, 3e-4),
                schedule="cosine",
                end_share=0.1,
                b2=0.95,
                weight_decay=0.1,
            ),
            train=dict(batch_size=524_288 if small else 4_194_304, steps=1000, eval_every=500),
            mesh=dict(data=1, fsdp=-1),
        )
    )
