"""Llama and what has its shape (SmolLM2). Layout: transformers' modeling_llama.py."""

from typing import Any

from research.convert.family import NAMES, Family, HfConfig, activation, need, only
from research.convert.mapping import Rule, Table, dense, norm
from research.errors import UserError
from research.models.config import ModelConfig

LAYER = "backbone/layers/"


def _rules(model: ModelConfig, name: str) -> list[Rule]:
    prefix = "" if name == "LlamaModel" else "model."
    at = f"{prefix}layers.{{layer}}."
    return [
        Rule(f"{prefix}embed_tokens.weight", ("backbone/embedding/word",), Table(model.vocab_size)),
        *norm(f"{at}input_layernorm", f"{LAYER}attention_norm"),
        *dense(f"{at}self_attn.q_proj", f"{LAYER}attention/query"),
        *dense(f"{at}self_attn.k_proj", f"{LAYER}attention/key"),
        *dense(f"{at}self_attn.v_proj", f"{LAYER}attention/value"),
        *dense(f"{at}self_attn.o_proj", f"{LAYER}attention/output", inputs=2),
        *norm(f"{at}post_attention_layernorm", f"{LAYER}mlp_norm"),
        *dense(f"{at}mlp.gate_proj", f"{LAYER}mlp/gate"),
        *dense(f"{at}mlp.up_proj", f"{LAYER}mlp/up"),
        *dense(f"{at}mlp.down_proj", f"{LAYER}mlp/down"),
        *norm(f"{prefix}norm", "backbone/final_norm"),
        Rule("lm_head.weight", ("heads/causal_lm/table",), Table(model.vocab_size)),
        *dense("score", "heads/sequence_classification/output"),
    ]


def _model(hf: HfConfig, tensors: frozenset[str]) -> ModelConfig:
    only(hf, "attention_bias", False)
    only(hf, "mlp_bias", False)
    # Newer files have the base in "rope_parameters", beside the kind of scaling.
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(f"config.json: rope scaling {kind!r} is not supported; supported: none")
    width, heads = need(hf, "hidden_size"), need(hf, "num_attention_heads")
    if (hf.get("head_dim") or width // heads) * heads != width:
        raise UserError(
            f"config.json: head_dim={hf['head_dim']} is not supported; it must be hidden_size "
            f"/ num_attention_heads = {width // heads}"
        )
    kv_heads = hf.get("num_key_value_heads") or heads
    return ModelConfig(
        vocab_size=need(hf, "vocab_size"),
        layers=need(hf, "num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        mlp_width=need(hf, "intermediate_size"),
        max_positions=hf.get("max_position_embeddings", 2048),
        positions="rope",
        rope_base=float(rope.get("rope_theta", hf.get("rope_theta", 10_000.0))),
        norm="rmsnorm",
        norm_epsilon=hf.get("rms_norm_eps", 1e-6),
        activation=activation(hf, "hidden_act", "silu"),
        gated=True,
        bias=False,
        tied_embeddings=bool(hf.get("tie_word_embeddings", False)),
        attention_dropout=hf.get("attention_dropout", 0.0),
    )


def _hf(model: ModelConfig) -> dict[str, Any]:
    return dict(
        vocab_size=model.vocab_size,
        num_hidden_layers=model.layers,
        hidden_size=model.width,
        num_attention_heads=model.heads,
        num_key_value_heads=model.key_heads,
        intermediate_size=model.mlp_width,
        max_position_embeddings=model.max_positions,
        rope_theta=model.rope_base,
        rope_parameters=dict(rope_type="default", rope_theta=model.rope_base),
        rms_norm_eps=model.norm_epsilon,
        hidden_act=NAMES[model.activation],
        tie_word_embeddings=model.tied_embeddings,
        attention_bias=False,
        mlp_bias=False,
        attention_dropout=model.attention_dropout,
        initializer_range=model.initializer_range,
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
)
