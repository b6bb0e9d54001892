"""Llama and models of its shape (SmolLM2). Layout: transformers' modeling_llama.py."""

from collections.abc import Sequence
from typing import Any

from research.convert.family import (
    SIZES,
    Family,
    HfConfig,
    Keys,
    base_of,
    need,
    only,
    read_keys,
    write_keys,
)
from research.convert.mapping import Rule, Table, dense, norm
from research.errors import UserError
from research.models.config import ModelConfig
from research.models.params import STACKED

KEYS: Keys = {
    **SIZES,
    "max_positions": ("max_position_embeddings", 2048),
    "norm_epsilon": ("rms_norm_eps", 1e-6),
    "activation": ("hidden_act", "silu"),
    "tied_embeddings": ("tie_word_embeddings", False),
    "attention_dropout": ("attention_dropout", 0.0),
}


def _rules(model: ModelConfig, prefix: str, heads: Sequence[str]) -> list[Rule]:
    at = f"{prefix}layers.{{layer}}."
    return [
        Rule(f"{prefix}embed_tokens.weight", ("backbone/embedding/word",), Table(model.vocab_size)),
        *norm(f"{at}input_layernorm", f"{STACKED}attention_norm"),
        *dense(f"{at}self_attn.q_proj", f"{STACKED}attention/query"),
        *dense(f"{at}self_attn.k_proj", f"{STACKED}attention/key"),
        *dense(f"{at}self_attn.v_proj", f"{STACKED}attention/value"),
        *dense(f"{at}self_attn.o_proj", f"{STACKED}attention/output", inputs=2),
        *norm(f"{at}post_attention_layernorm", f"{STACKED}mlp_norm"),
        *dense(f"{at}mlp.gate_proj", f"{STACKED}mlp/gate"),
        *dense(f"{at}mlp.up_proj", f"{STACKED}mlp/up"),
        *dense(f"{at}mlp.down_proj", f"{STACKED}mlp/down"),
        *norm(f"{prefix}norm", "backbone/final_norm"),
        Rule("lm_head.weight", ("heads/causal_lm/table",), Table(model.vocab_size)),
        *dense("score", "heads/sequence_classification/output"),
    ]


def _model(hf: HfConfig) -> ModelConfig:
    only(hf, "attention_bias", False)
    only(hf, "mlp_bias", False)
    # If a file has both keys, the library takes "rope_scaling", including its base.
    rope = hf.get("rope_scaling") or hf.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(f"config.json: rope scaling {kind!r} is not supported; supported: none")
    width, heads = need(hf, "hidden_size"), need(hf, "num_attention_heads")
    if (hf.get("head_dim") or width // heads) * heads != width:
        raise UserError(
            f"config.json: head_dim={hf['head_dim']} is not supported; it must be hidden_size "
            f"/ num_attention_heads = {width // heads}"
        )
    return ModelConfig(
        **read_keys(hf, KEYS),
        kv_heads=hf.get("num_key_value_heads") or heads,
        positions="rope",
        rope_base=base_of(rope, hf.get("rope_theta", 10_000.0)),
        norm="rmsnorm",
        gated=True,
        bias=False,
    )


def _hf(model: ModelConfig) -> dict[str, Any]:
    return write_keys(model, KEYS) | dict(
        num_key_value_heads=model.key_heads,
        rope_theta=model.rope_base,
        rope_parameters=dict(rope_type="default", rope_theta=model.rope_base),
        attention_bias=False,
        mlp_bias=False,
    )


LLAMA = Family(
    model_type="llama",
    classes={
        "LlamaForCausalLM": ("causal_lm",),
        "LlamaModel": (),
        "LlamaForSequenceClassification": ("sequence_classification",),
    },
    prefix="model.",
    pooled=(),
    poolings={"last": ""},
    to_model=_model,
    to_hf=_hf,
    rules=_rules,
    pattern="causal",
    ignored=("*rotary_emb.inv_freq",),
    copies={"lm_head.weight": "model.embed_tokens.weight"},
)
