"""Reads a GGUF file of the Llama family: dequantised, with the tensor names of safetensors.

Format: ggml's docs/gguf.md. llama.cpp stores queries and keys with the two halves of a head
interleaved; the reader separates them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from research.convert.folder import Public
from research.data import frame, tokenizer_settings
from research.data.tokenizer import Tokenizer
from research.errors import UserError, nearest

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NEEDED = (
    "llama.embedding_length",
    "llama.block_count",
    "llama.attention.head_count",
    "llama.feed_forward_length",
    "llama.context_length",
    "llama.attention.layer_norm_rms_epsilon",
    "tokenizer.ggml.tokens",
)
# Other keys under "llama.", with the values that this code base computes; None: any value.
KEYS: dict[str, tuple[Any, ...] | None] = {
    "vocab_size": None,
    "pooling_type": None,  # of vectors
    "attention.head_count_kv": None,
    "rope.freq_base": None,
    "rope.scaling.type": ("none",),
    "rope.scaling.original_context_length": None,
    "rope.scaling.finetuned": None,
    "rope.scaling.factor": (1.0, 0.0),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scale_linear": (1.0, 0.0),
    "attention.causal": (True,),
    "attention.scale": (0.0,),
    "attention.sliding_window": (0,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "logit_scale": (1.0, 0.0),
    "residual_scale": (1.0, 0.0),
    "embedding_scale": (1.0, 0.0),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "use_parallel_residual": (False,),
    "tensor_data_layout": ("Meta AI original pth",),  # the interleaved halves
}
CONTROL = 3  # the file's type of a token without text

# Roles of tokens -> their names in the file's keys.
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}

# Keys under "tokenizer.ggml." that are read, and those without effect on byte pairs.
TOKENIZER_KEYS = (
    *("model", "pre", "tokens", "token_type", "merges", "add_bos_token", "add_eos_token"),
    *(f"{key}_token_id" for key in ROLES.values()),
    *("scores", "add_space_prefix", "remove_extra_whitespaces", "precompiled_charsmap"),
    *("token_type_count", "eot_token_id", "eom_token_id"),
)

# Pre-tokenizers, by the file's name for them.
_BYTES = dict(add_prefix_space=False, use_regex=True)
CUTS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(**_BYTES),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(**_BYTES)]
    ),
}


def read_gguf(path: Path) -> Public:
    """Reads a file. Raises UserError if it is damaged, or for another architecture or tokenizer."""
    try:
        reader = gguf.GGUFReader(str(path))
    except (ValueError, IndexError, OSError) as error:
        raise UserError(f"{path}: truncated, or not a GGUF file ({error})") from error
    fields = {name: field.contents() for name, field in reader.fields.items()}
    kind = fields.get("general.architecture")
    if kind != "llama":
        raise UserError(f"{path}: architecture {kind!r} is not supported; supported: 'llama'")
    _need(fields, NEEDED, path)
    _check(fields, path)
    config = _config(fields)
    tensors = {_name(t.name, path): _reader(t, config, path) for t in reader.tensors}
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    template = fields.get("tokenizer.chat_template")
    return Public(str(path), config, tensors, _tokenizer(fields, path), template)


def _need(fields: Mapping[str, Any], names: Sequence[str], path: Path) -> None:
    missing = [name for name in names if name not in fields]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}")


def _check(fields: Mapping[str, Any], path: Path) -> None:
    """Raises UserError for a key that asks for a computation that is not supported."""
    width, heads = fields["llama.embedding_length"], fields["llama.attention.head_count"]
    for name in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        if isinstance(fields.get(f"llama.{name}"), list):
            raise UserError(f"{path}: llama.{name} differs between layers; not supported")
    size = (width // heads,)
    known = KEYS | {
        "rope.dimension_count": size,
        "attention.key_length": size,
        "attention.value_length": size,
    }
    known["attention.scale"] += (float(np.float32(size[0] ** -0.5)),)
    for key, value in fields.items():
        name = key.removeprefix("llama.")
        if name == key or key in NEEDED:
            continue
        if name not in known:
            raise UserError(f"{path}: the key {key}={value!r:.60} is not known")
        allowed = known[name]
        if allowed is not None and value not in allowed:
            raise UserError(
                f"{path}: {key}={value!r} is not supported; supported here: "
                f"{' or '.join(map(repr, allowed))}"
            )
    ggml = {key: key.removeprefix("tokenizer.ggml.") for key in fields}
    strange = [key for key, name in ggml.items() if name != key and name not in TOKENIZER_KEYS]
    if strange:
        tokenizer_settings.warn(f"{path}: {', '.join(strange)}: not known, ignored")
    for key, allowed in (("general.type", "model"), ("split.count", 1)):
        if fields.get(key, allowed) not in (allowed, 0):
            raise UserError(f"{path}: {key}={fields[key]!r}; expected a whole model in one file")


def _config(fields: Mapping[str, Any]) -> dict[str, Any]:
    def field(name: str, default: Any = None) -> Any:
        return fields.get(f"llama.{name}", default)

    heads = field("attention.head_count")
    return dict(
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        hidden_size=field("embedding_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=field("attention.head_count_kv", heads),
        intermediate_size=field("feed_forward_length"),
        max_position_embeddings=field("context_length"),
        # The file has float32; rounding gives the original number with few digits.
        rms_norm_eps=float(f"{field('attention.layer_norm_rms_epsilon'):.6g}"),
        rope_theta=float(field("rope.freq_base", 10_000.0)),
        hidden_act="silu",
    )


def _name(name: str, path: Path) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    block, _, part = stem.rpartition(".")
    if block.startswith("blk.") and part in BLOCK_NAMES:
        return f"model.layers.{block.removeprefix('blk.')}.{BLOCK_NAMES[part]}.{kind}"
    meaning = ", a scaling of rotary positions," if stem == "rope_freqs" else ""
    raise UserError(f"{path}: the tensor {name!r}{meaning} is not known")


def _reader(tensor: Any, config: Mapping[str, Any], path: Path) -> Callable[[], np.ndarray]:
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    part = tensor.name.split(".")[-2]

    def read() -> np.ndarray:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        try:
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        except NotImplementedError as error:
            raise UserError(
                f"{path}: {tensor.name} is stored as {tensor.tensor_type.name}, which cannot be "
                "dequantised here; take a file in F16, Q8_0 or Q4_0"
            ) from error
        if part not in heads:
            return array
        count = config[heads[part]]
        half = shape[0] // count // 2
        return array.reshape(count, half, 2, shape[1]).swapaxes(1, 2).reshape(shape)

    return read


def _tokenizer(fields: Mapping[str, Any], path: Path) -> Tokenizer:
    kind = fields.get("tokenizer.ggml.model")
    if kind == "gpt2" and "tokenizer.ggml.pre" not in fields:
        raise UserError(
            f"{path} lacks tokenizer.ggml.pre, which says how a text is cut before the merges; "
            "another cut gives other ids. Name that of its model in a copy, one of "
            f"{', '.join(CUTS)}: gguf-new-metadata --pre-tokenizer NAME {path} COPY.gguf"
        )
    cut = fields.get("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in CUTS:
        raise UserError(
            f"{path}: the tokenizer {kind!r} with the cut {cut!r} is not supported"
            f"{nearest(str(cut), CUTS)}"
        )
    _need(fields, ("tokenizer.ggml.merges", "tokenizer.ggml.token_type"), path)
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocab = {token: number for number, token in enumerate(tokens)}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    inner.pre_tokenizer, inner.decoder = CUTS[cut](), decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"]
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL]
    inner.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in special])
    roles = {
        role: tokens[fields[f"tokenizer.ggml.{key}_token_id"]]
        for role, key in ROLES.items()
        if f"tokenizer.ggml.{key}_token_id" in fields
    }
    framing = [r for r in ("bos", "eos") if fields.get(f"tokenizer.ggml.add_{r}_token", False)]
    _need(fields, [f"tokenizer.ggml.{role}_token_id" for role in framing], path)
    inner.post_processor = frame.ends({r: (roles[r], vocab[roles[r]]) for r in framing})
    return Tokenizer(inner, roles)
