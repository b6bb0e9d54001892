"""GPT-2. Layout: transformers' modeling_gpt2.py (linear layers are Conv1D: [in, out])."""

from typing import Any

from research.convert.family import NAMES, Family, HfConfig, activation, need, only
from research.convert.mapping import Rule, Table, dense, norm
from research.models.config import ModelConfig

LAYER = "backbone/layers/"
QUERY_KEY_VALUE = tuple(f"{LAYER}attention/{name}" for name in ("query", "key", "value"))


def _rules(model: ModelConfig, name: str) -> list[Rule]:
    prefix = "" if name == "GPT2Model" else "transformer."
    at = f"{prefix}h.{{layer}}."
    e = "backbone/embedding"
    return [
        Rule(f"{prefix}wte.weight", (f"{e}/word",), Table(model.vocab_size)),
        Rule(f"{prefix}wpe.weight", (f"{e}/position",), Table(model.max_positions)),
        *norm(f"{at}ln_1", f"{LAYER}attention_norm"),
        *dense(f"{at}attn.c_attn", QUERY_KEY_VALUE, transposed=False),
        *dense(f"{at}attn.c_proj", f"{LAYER}attention/output", inputs=2, transposed=False),
        *norm(f"{at}ln_2", f"{LAYER}mlp_norm"),
        *dense(f"{at}mlp.c_fc", f"{LAYER}mlp/up", transposed=False),
        *dense(f"{at}mlp.c_proj", f"{LAYER}mlp/down", transposed=False),
        *norm(f"{prefix}ln_f", "backbone/final_norm"),
        *dense("score", "heads/sequence_classification/output"),
    ]


def _model(hf: HfConfig, tensors: frozenset[str]) -> ModelConfig:
    only(hf, "scale_attn_weights", True)
    only(hf, "scale_attn_by_inverse_layer_idx", False)
    only(hf, "add_cross_attention", False)
    only(hf, "tie_word_embeddings", True)
    width = need(hf, "n_embd")
    return ModelConfig(
        vocab_size=need(hf, "vocab_size"),
        layers=need(hf, "n_layer"),
        width=width,
        heads=need(hf, "n_head"),
        mlp_width=hf.get("n_inner") or 4 * width,
        max_positions=hf.get("n_positions", hf.get("n_ctx", 1024)),
        norm_epsilon=hf.get("layer_norm_epsilon", 1e-5),
        activation=activation(hf, "activation_function", "gelu_new"),
        dropout=hf.get("resid_pdrop", 0.1),
        attention_dropout=hf.get("attn_pdrop", 0.1),
    )


def _hf(model: ModelConfig) -> dict[str, Any]:
    return dict(
        vocab_size=model.vocab_size,
        n_layer=model.layers,
        n_embd=model.width,
        n_head=model.heads,
        n_inner=model.mlp_width,
        n_positions=model.max_positions,
        layer_norm_epsilon=model.norm_epsilon,
        activation_function=NAMES[model.activation],
        resid_pdrop=model.dropout,
        embd_pdrop=model.dropout,
        attn_pdrop=model.attention_dropout,
        initializer_range=model.initializer_range,
    )


GPT2 = Family(
    model_type="gpt2",
    classes={
        "GPT2LMHeadModel": ("causal_lm",),
        "GPT2Model": (),
        "GPT2ForSequenceClassification": ("sequence_classification",),
    },
    prefix="transformer.",
    pooled=(),
    poolings={"last": ""},
    to_model=_model,
    to_hf=_hf,
    rules=_rules,
    pattern="causal",
    # The causal masks are constants, and the output table is the embedding.
    ignored=("*attn.bias", "*attn.masked_bias", "lm_head.weight"),
)
