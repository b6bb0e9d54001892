"""GPT-2. Layout: transformers' modeling_gpt2.py (linear layers are Conv1D: [in, out])."""

from collections.abc import Sequence

from research.convert.family import REQUIRED, Family, HfConfig, Keys, only, read_keys, write_keys
from research.convert.mapping import Rule, Table, dense, norm
from research.models.config import ModelConfig
from research.models.params import STACKED

QUERY_KEY_VALUE = tuple(f"{STACKED}attention/{name}" for name in ("query", "key", "value"))

KEYS: Keys = {
    "vocab_size": ("vocab_size", REQUIRED),
    "layers": ("n_layer", REQUIRED),
    "width": ("n_embd", REQUIRED),
    "heads": ("n_head", REQUIRED),
    "mlp_width": ("n_inner", None),  # None: four times the width
    "max_positions": ("n_positions", 1024),
    "initializer_range": ("initializer_range", 0.02),
    "norm_epsilon": ("layer_norm_epsilon", 1e-5),
    "activation": ("activation_function", "gelu_new"),
    "dropout": ("resid_pdrop", 0.1),
    "attention_dropout": ("attn_pdrop", 0.1),
}


def _rules(model: ModelConfig, prefix: str, heads: Sequence[str]) -> list[Rule]:
    at = f"{prefix}h.{{layer}}."
    e = "backbone/embedding"
    return [
        Rule(f"{prefix}wte.weight", (f"{e}/word",), Table(model.vocab_size)),
        Rule(f"{prefix}wpe.weight", (f"{e}/position",), Table(model.max_positions)),
        *norm(f"{at}ln_1", f"{STACKED}attention_norm"),
        *dense(f"{at}attn.c_attn", QUERY_KEY_VALUE, transposed=False),
        *dense(f"{at}attn.c_proj", f"{STACKED}attention/output", inputs=2, transposed=False),
        *norm(f"{at}ln_2", f"{STACKED}mlp_norm"),
        *dense(f"{at}mlp.c_fc", f"{STACKED}mlp/up", transposed=False),
        *dense(f"{at}mlp.c_proj", f"{STACKED}mlp/down", transposed=False),
        *norm(f"{prefix}ln_f", "backbone/final_norm"),
        *dense("score", "heads/sequence_classification/output"),
    ]


def _model(hf: HfConfig) -> ModelConfig:
    only(hf, "scale_attn_weights", True)
    only(hf, "scale_attn_by_inverse_layer_idx", False)
    only(hf, "add_cross_attention", False)
    only(hf, "tie_word_embeddings", True)
    values = read_keys(hf, KEYS)
    values["mlp_width"] = values["mlp_width"] or 4 * values["width"]
    return ModelConfig(**values)


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
    to_hf=lambda model: write_keys(model, KEYS) | {"embd_pdrop": model.dropout},
    rules=_rules,
    pattern="causal",
    ignored=("*attn.bias", "*attn.masked_bias"),  # the causal masks are constants
    copies={"lm_head.weight": "transformer.wte.weight"},
)
