"""The shape of the transformer, and published shapes by name."""

import dataclasses
from typing import Literal

from research.errors import UserError, nearest
from research.values import Count, Fraction, Pattern, Positive, Size, convert

VOCAB_MULTIPLE = 128  # embedding rows are padded to it, so that meshes and the MXU divide them


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of a backbone. Sizes count elements; rates are probabilities.

    Attributes:
      preset: the published shape that the other keys change, such as bert_base or gpt2_small;
        "checkpoint" takes the whole shape from `init_from`.
      vocab_size: entries of the tokenizer; set once the tokenizer is known.
      layers: number of transformer blocks.
      width: size of the hidden states.
      heads: attention heads of each layer.
      kv_heads: heads of keys and values; 0: as many as heads.
      mlp_width: size of the hidden layer of each MLP.
      max_positions: longest text in tokens, with learned positions.
      positions: how attention learns of positions: an embedding, rotations, or a bias of the scores
        that grows with the distance.
      rope_base: base of the rotations' wavelengths.
      window: a local layer sees keys at most window // 2 positions away; 0: none is local.
      global_every: with a window: layers 0, n, 2 n, … see the whole segment.
      local_rope_base: rope_base of the local layers.
      token_types: rows of BERT's embedding of sentence A and B; 0: none.
      embedding_norm: a norm after the embedding.
      norm: kind of norm.
      norm_place: whether norms come before or after attention and MLP.
      norm_epsilon: added to the variance.
      first_attention_norm: false: the attention norm of layer 0 exists but is unused (ModernBERT).
      activation: activation of the MLP.
      gated: whether the MLP's activation gates a second product.
      bias: whether dense layers and norms have biases.
      tied_embeddings: whether the output table is the embedding.
      pooler: BERT's dense layer on the first token.
      pooler_activation: activation of the pooler.
      head_transform: a dense layer, activation and norm before a classifier's output (ModernBERT).
      dropout: dropout rate of hidden states.
      attention_dropout: dropout rate of attention weights.
      initializer_range: standard deviation of new weights.
      lora_rank: rank of the adapters; only they and the heads are then trained; 0: no adapters.
      lora_alpha: the adapters' outputs are multiplied by lora_alpha / lora_rank.
      lora_dropout: dropout rate of the adapters' inputs.
      lora: patterns of adapted layers: attention/query, key, value, output, mlp/up, gate, down.
      dtype: dtype of the computation; params are float32.
      remat: what the backward pass recomputes: nothing, a block except its products with weights
        ("dots"), or the whole block ("block").
      attention: the kernel (`research.models.kernels`).
      given: set automatically: the keys written beside preset "checkpoint".
    """

    preset: str = ""
    vocab_size: Count = 0
    layers: Size = 2
    width: Size = 128
    heads: Size = 2
    kv_heads: Count = 0
    mlp_width: Size = 512
    max_positions: Size = 512
    positions: Literal["learned", "rope", "alibi"] = "learned"
    rope_base: float = 10_000.0
    window: Count = 0
    global_every: Size = 1
    local_rope_base: float = 10_000.0
    token_types: Count = 0
    embedding_norm: bool = False
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_place: Literal["pre", "post"] = "pre"
    norm_epsilon: float = 1e-5
    first_attention_norm: bool = True
    activation: Literal["gelu", "gelu_tanh", "silu"] = "gelu_tanh"
    gated: bool = False
    bias: bool = True
    tied_embeddings: bool = True
    pooler: bool = False
    pooler_activation: Literal["tanh", "relu"] = "tanh"
    head_transform: bool = False
    dropout: Fraction = 0.0
    attention_dropout: Fraction = 0.0
    initializer_range: Positive = 0.02
    lora_rank: Count = 0
    lora_alpha: float = 16.0
    lora_dropout: Fraction = 0.0
    lora: tuple[Pattern, ...] = ("attention/(query|value)",)
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "block"] = "none"
    attention: Literal["auto", "xla", "splash", "cudnn"] = "auto"
    given: tuple[str, ...] = ()

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def key_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def padded_vocab(self) -> int:
        """Rows of the embedding table; rows from `vocab_size` on are never predicted."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


# Keys on which a checkpoint's parameters, or what they compute, depend.
SHAPE_KEYS = tuple(
    f.name
    for f in dataclasses.fields(ModelConfig)
    if f.name
    not in (
        "preset",
        "given",
        "dropout",
        "attention_dropout",
        "dtype",
        "remat",
        "attention",
        "initializer_range",
        "lora_dropout",
    )
)


def _bert(layers: int, width: int, heads: int) -> ModelConfig:
    """BERT (Devlin et al. 2018, arXiv:1810.04805; small sizes: Turc et al. 2019, 1908.08962)."""
    return ModelConfig(
        layers=layers,
        width=width,
        heads=heads,
        mlp_width=4 * width,
        token_types=2,
        embedding_norm=True,
        norm_place="post",
        norm_epsilon=1e-12,
        activation="gelu",
        pooler=True,
        dropout=0.1,
        attention_dropout=0.1,
    )


def _gpt2(layers: int, width: int, heads: int, max_positions: int = 1024) -> ModelConfig:
    """GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners")."""
    return ModelConfig(
        layers=layers,
        width=width,
        heads=heads,
        mlp_width=4 * width,
        max_positions=max_positions,
        dropout=0.1,
        attention_dropout=0.1,
    )


def _llama(
    layers: int, width: int, heads: int, kv_heads: int, mlp_width: int, **changed
) -> ModelConfig:
    """Llama (Touvron et al. 2023, arXiv:2302.13971, 2307.09288) and models of its shape."""
    defaults = dict(
        max_positions=4096,
        positions="rope",
        norm="rmsnorm",
        activation="silu",
        gated=True,
        bias=False,
        tied_embeddings=False,
    )
    return ModelConfig(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        mlp_width=mlp_width,
        **defaults | changed,
    )


def _modernbert(layers: int, width: int, heads: int, mlp_width: int) -> ModelConfig:
    """ModernBERT (Warner et al. 2024, arXiv:2412.13663)."""
    return ModelConfig(
        layers=layers,
        width=width,
        heads=heads,
        mlp_width=mlp_width,
        max_positions=8192,
        positions="rope",
        rope_base=160_000.0,
        window=128,
        global_every=3,
        embedding_norm=True,
        first_attention_norm=False,
        activation="gelu",
        gated=True,
        bias=False,
        head_transform=True,
    )


# SmolLM2 (Allal et al. 2025, arXiv:2502.02737) is a small Llama that ties its embeddings.
_SMOLLM2 = dict(max_positions=8192, rope_base=100_000.0, tied_embeddings=True)

PRESETS: dict[str, ModelConfig] = {
    "bert_tiny": _bert(2, 128, 2),
    "bert_mini": _bert(4, 256, 4),
    "bert_small": _bert(4, 512, 8),
    "bert_medium": _bert(8, 512, 8),
    "bert_base": _bert(12, 768, 12),
    "bert_large": _bert(24, 1024, 16),
    "gpt2_tiny": _gpt2(2, 128, 2, max_positions=512),
    "gpt2_mini": _gpt2(4, 256, 4, max_positions=512),
    "gpt2_small": _gpt2(12, 768, 12),
    "gpt2_medium": _gpt2(24, 1024, 16),
    "gpt2_large": _gpt2(36, 1280, 20),
    "gpt2_xl": _gpt2(48, 1600, 25),
    "smollm2_135m": _llama(30, 576, 9, 3, 1536, **_SMOLLM2),
    "llama_7b": _llama(32, 4096, 32, 32, 11_008),
    "llama_70b": _llama(80, 8192, 64, 8, 28_672),
    "modernbert_base": _modernbert(22, 768, 12, 1152),
    "modernbert_large": _modernbert(28, 1024, 16, 2624),
}


def preset(name: str) -> ModelConfig:
    """Returns the published shape `name`. Raises UserError for an unknown name."""
    if name not in PRESETS:
        raise UserError(f"model.preset={name!r} is not known{nearest(name, PRESETS)}")
    return dataclasses.replace(PRESETS[name], preset=name)


def check(model: ModelConfig) -> None:
    """Raises UserError if a size is out of range or sizes do not fit together."""
    convert(ModelConfig, model, "model")
    if model.width % model.heads:
        fits = [h for h in range(1, model.width + 1) if model.width % h == 0]
        near = sorted(fits, key=lambda h: abs(h - model.heads))[:3]
        raise UserError(
            f"model.heads={model.heads} does not divide model.width={model.width}; "
            f"nearest that do: {', '.join(map(str, sorted(near)))}"
        )
    if model.heads % model.key_heads:
        raise UserError(
            f"model.kv_heads={model.kv_heads} does not divide model.heads={model.heads}"
        )
    if model.positions == "rope" and model.head_width % 2:
        raise UserError(f"rope needs an even head width; width / heads is {model.head_width}")
