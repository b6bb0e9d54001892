"""ModernBERT. Layout: transformers' modeling_modernbert.py."""

from typing import Any

from research.convert.family import NAMES, Family, HfConfig, activation, need, only
from research.convert.mapping import Rule, Table, dense, norm
from research.errors import UserError
from research.models.config import ModelConfig

LAYER = "backbone/layers/"
QUERY_KEY_VALUE = tuple(f"{LAYER}attention/{name}" for name in ("query", "key", "value"))


def _rules(model: ModelConfig, name: str) -> list[Rule]:
    prefix = "" if name == "ModernBertModel" else "model."
    at = f"{prefix}layers.{{layer}}."
    head = {
        "ModernBertForMaskedLM": "masked_lm",
        "ModernBertForSequenceClassification": "sequence_classification",
        "ModernBertForTokenClassification": "token_classification",
        "ModernBertForMultipleChoice": "multiple_choice",
        "ModernBertForQuestionAnswering": "span_qa",
    }.get(name, "")
    rules = [
        Rule(
            f"{prefix}embeddings.tok_embeddings.weight",
            ("backbone/embedding/word",),
            Table(model.vocab_size),
        ),
        *norm(f"{prefix}embeddings.norm", "backbone/embedding/norm"),
        *norm(f"{at}attn_norm", f"{LAYER}attention_norm"),
        *dense(f"{at}attn.Wqkv", QUERY_KEY_VALUE),
        *dense(f"{at}attn.Wo", f"{LAYER}attention/output", inputs=2),
        *norm(f"{at}mlp_norm", f"{LAYER}mlp_norm"),
        *dense(f"{at}mlp.Wi", (f"{LAYER}mlp/gate", f"{LAYER}mlp/up")),
        *dense(f"{at}mlp.Wo", f"{LAYER}mlp/down"),
        *norm(f"{prefix}final_norm", "backbone/final_norm"),
    ]
    if head:
        rules += dense("head.dense", f"heads/{head}/transform")
        rules += norm("head.norm", f"heads/{head}/norm")
    if head == "masked_lm":
        rules.append(Rule("decoder.bias", ("heads/masked_lm/bias",), Table(model.vocab_size)))
    elif head:
        rules += dense("classifier", f"heads/{head}/output")
    return rules


def _skip(model: ModelConfig, path: str, layer: int) -> bool:
    return layer == 0 and path.startswith(f"{LAYER}attention_norm/")


def _rope(hf: HfConfig) -> tuple[float, float]:
    """(base of the global layers, base of the local ones)."""
    given = hf.get("rope_parameters") or {}
    if "full_attention" in given:
        bases = [given[kind] for kind in ("full_attention", "sliding_attention")]
        for base in bases:
            only(base, "rope_type", "default")
        return tuple(float(base["rope_theta"]) for base in bases)
    full = float(hf.get("global_rope_theta", 160_000.0))
    return full, float(hf.get("local_rope_theta") or full)


def _every(hf: HfConfig) -> int:
    """One layer in so many is global; newer files list the kind of each layer."""
    kinds = hf.get("layer_types")
    if kinds is None:
        return hf.get("global_attn_every_n_layers", 3)
    places = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
    every = places[1] if len(places) > 1 else len(kinds)
    if places != list(range(0, len(kinds), every)):
        raise UserError(f"config.json: layer_types with full attention in {places} is no pattern")
    return every


def _model(hf: HfConfig, tensors: frozenset[str]) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        only(hf, key, False)
    only(hf, "decoder_bias", True)
    only(hf, "classifier_activation", "gelu")
    only(hf, "tie_word_embeddings", True)
    full, local = _rope(hf)
    return ModelConfig(
        vocab_size=need(hf, "vocab_size"),
        layers=need(hf, "num_hidden_layers"),
        width=need(hf, "hidden_size"),
        heads=need(hf, "num_attention_heads"),
        mlp_width=need(hf, "intermediate_size"),
        max_positions=hf.get("max_position_embeddings", 8192),
        positions="rope",
        rope_base=full,
        window=hf.get("local_attention", 128),
        global_every=_every(hf),
        local_rope_base=local,
        embedding_norm=True,
        first_attention_norm=False,
        norm_epsilon=hf.get("norm_eps", 1e-5),
        activation=activation(hf, "hidden_activation", "gelu"),
        gated=True,
        bias=False,
        head_transform=True,
        dropout=hf.get("mlp_dropout", 0.0),
        attention_dropout=hf.get("attention_dropout", 0.0),
    )


def _hf(model: ModelConfig) -> dict[str, Any]:
    return dict(
        vocab_size=model.vocab_size,
        num_hidden_layers=model.layers,
        hidden_size=model.width,
        num_attention_heads=model.heads,
        intermediate_size=model.mlp_width,
        max_position_embeddings=model.max_positions,
        global_rope_theta=model.rope_base,
        local_rope_theta=model.local_rope_base,
        rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=model.rope_base),
            sliding_attention=dict(rope_type="default", rope_theta=model.local_rope_base),
        ),
        local_attention=model.window,
        global_attn_every_n_layers=model.global_every,
        norm_eps=model.norm_epsilon,
        hidden_activation=NAMES[model.activation],
        attention_dropout=model.attention_dropout,
        mlp_dropout=model.dropout,
        embedding_dropout=model.dropout,
        initializer_range=model.initializer_range,
    )


MODERNBERT = Family(
    model_type="modernbert",
    classes={
        "ModernBertModel": (),
        "ModernBertForMaskedLM": ("masked_lm",),
        "ModernBertForSequenceClassification": ("sequence_classification",),
        "ModernBertForTokenClassification": ("token_classification",),
        "ModernBertForMultipleChoice": ("multiple_choice",),
        "ModernBertForQuestionAnswering": ("span_qa",),
    },
    prefix="model.",
    pooled=(),
    poolings={"first": "cls", "mean": "mean"},
    to_model=_model,
    to_hf=_hf,
    rules=_rules,
    ignored=("decoder.weight", "*rotary_emb.inv_freq"),
    skip=_skip,
)
