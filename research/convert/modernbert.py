"""ModernBERT. Layout: transformers' modeling_modernbert.py."""

from collections.abc import Sequence
from typing import Any

from research.convert.family import (
    ENCODER_HEADS,
    SIZES,
    Family,
    HfConfig,
    Keys,
    base_of,
    encoder_classes,
    need,
    only,
    read_keys,
    write_keys,
)
from research.convert.mapping import Rule, Table, dense, norm
from research.errors import UserError
from research.models.config import ModelConfig
from research.models.params import STACKED

QUERY_KEY_VALUE = tuple(f"{STACKED}attention/{name}" for name in ("query", "key", "value"))

KEYS: Keys = {
    **SIZES,
    "max_positions": ("max_position_embeddings", 8192),
    "window": ("local_attention", 128),
    "norm_epsilon": ("norm_eps", 1e-5),
    "activation": ("hidden_activation", "gelu"),
    "dropout": ("mlp_dropout", 0.0),
    "attention_dropout": ("attention_dropout", 0.0),
}


def _rules(model: ModelConfig, prefix: str, heads: Sequence[str]) -> list[Rule]:
    at = f"{prefix}layers.{{layer}}."
    rules = [
        Rule(
            f"{prefix}embeddings.tok_embeddings.weight",
            ("backbone/embedding/word",),
            Table(model.vocab_size),
        ),
        *norm(f"{prefix}embeddings.norm", "backbone/embedding/norm"),
        *norm(f"{at}attn_norm", f"{STACKED}attention_norm"),
        *dense(f"{at}attn.Wqkv", QUERY_KEY_VALUE),
        *dense(f"{at}attn.Wo", f"{STACKED}attention/output", inputs=2),
        *norm(f"{at}mlp_norm", f"{STACKED}mlp_norm"),
        *dense(f"{at}mlp.Wi", (f"{STACKED}mlp/gate", f"{STACKED}mlp/up")),
        *dense(f"{at}mlp.Wo", f"{STACKED}mlp/down"),
        *norm(f"{prefix}final_norm", "backbone/final_norm"),
        Rule("decoder.bias", ("heads/masked_lm/bias",), Table(model.vocab_size)),
    ]
    for head in ENCODER_HEADS.values():
        rules += dense("head.dense", f"heads/{head}/transform")
        rules += norm("head.norm", f"heads/{head}/norm")
        rules += dense("classifier", f"heads/{head}/output")
    return rules


def _rope(hf: HfConfig) -> tuple[float, float]:
    """Returns the base of the global layers and the base of the local ones.

    "rope_scaling" changes both kinds of layers; a base that a kind lacks comes from an older key.
    """
    scaling, parameters = hf.get("rope_scaling") or {}, hf.get("rope_parameters") or {}
    kinds = [
        (parameters.get(kind) or {}) | scaling for kind in ("full_attention", "sliding_attention")
    ]
    for kind in kinds:
        only(kind, "type", "default")
        only(kind, "rope_type", "default")
    full = base_of(kinds[0], hf.get("global_rope_theta", 160_000.0))
    older = hf.get("local_rope_theta", 10_000.0)
    return full, base_of(kinds[1], full if older is None else older)


def _every(hf: HfConfig) -> int:
    """Returns n if every n-th layer is global; newer files list the kind of each layer."""
    kinds = hf.get("layer_types")
    if kinds is None:
        return hf.get("global_attn_every_n_layers", 3)
    places = [i for i, kind in enumerate(kinds) if kind == "full_attention"]
    every = places[1] if len(places) > 1 else len(kinds)
    if places != list(range(0, len(kinds), every)):
        raise UserError(f"config.json: layer_types with full attention in {places}: not a pattern")
    return every


def _model(hf: HfConfig) -> ModelConfig:
    for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        only(hf, key, False)
    only(hf, "decoder_bias", True)
    only(hf, "classifier_activation", "gelu")
    only(hf, "tie_word_embeddings", True)
    full, local = _rope(hf)
    if "sliding_window" in hf:  # half of "local_attention", which it replaces
        hf = {**hf, "local_attention": 2 * need(hf, "sliding_window")}
    keys, every = read_keys(hf, KEYS), _every(hf)
    # A window of 0 there is 1 here: a layer sees its own position only. All global: no window.
    window = 0 if every == 1 else keys["window"] or 1
    return ModelConfig(
        **keys | {"window": window},
        positions="rope",
        rope_base=full,
        global_every=every,
        local_rope_base=local,
        embedding_norm=True,
        first_attention_norm=False,
        gated=True,
        bias=False,
        head_transform=True,
    )


def _hf(model: ModelConfig) -> dict[str, Any]:
    """Without a window, every layer is global, so the class's default window has no effect."""
    window = model.window or KEYS["window"][1]
    return write_keys(model, KEYS) | dict(
        local_attention=window,
        global_rope_theta=model.rope_base,
        local_rope_theta=model.local_rope_base,
        rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=model.rope_base),
            sliding_attention=dict(rope_type="default", rope_theta=model.local_rope_base),
        ),
        global_attn_every_n_layers=model.global_every if model.window else 1,
        embedding_dropout=model.dropout,
    )


MODERNBERT = Family(
    model_type="modernbert",
    classes=encoder_classes("ModernBert"),
    prefix="model.",
    pooled=(),
    poolings={"first": "cls", "mean": "mean"},
    to_model=_model,
    to_hf=_hf,
    rules=_rules,
    ignored=("*rotary_emb.inv_freq",),
    copies={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    skip=lambda path, layer: layer == 0 and path.startswith(f"{STACKED}attention_norm/"),
)
