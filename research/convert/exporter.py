"""Exports a checkpoint into a folder that the Hugging Face library loads."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from research.convert import mapping
from research.convert.card import model_card
from research.convert.families import FAMILIES
from research.convert.family import Family
from research.convert.folder import appearing, require_free
from research.convert.sentence_folder import files
from research.data.frame import Frame
from research.data.tokenizer import Tokenizer
from research.errors import UserError
from research.evaluation.embedding import recipe_of
from research.models import lora
from research.models import params as parameters
from research.models.config import SHAPE_KEYS, ModelConfig
from research.objectives.sentence_pairs import SentencePairs
from research.run.loaded import Loaded, load_model
from research.tasks import chat, pooled, turns


@dataclasses.dataclass(frozen=True)
class Exported:
    """The library's class that was written, and the parameters that it has no place for."""

    architecture: str
    left_out: tuple[str, ...]


def export(path: str, output: str) -> Exported:
    """Writes config.json, model.safetensors, the tokenizer's files and a model card to OUTPUT.

    Raises UserError, and writes nothing, if the library has no class for the shape or the heads, or
    if OUTPUT is not empty.
    """
    folder = Path(output)
    require_free(folder)
    loaded = _merged(load_model(path))
    family, name = find_class(loaded)
    params = parameters.by_path(loaded.params)
    pooler = [p for p in params if p.startswith("backbone/pooler/")]
    left_out = tuple(pooler) if name not in family.pooled else ()
    for head in _pairs(loaded) - set(family.classes[name]):
        left_out += tuple(p for p in params if p.startswith(f"heads/{head}/"))
    kept = {p: np.asarray(jax.device_get(x)) for p, x in params.items() if p not in left_out}
    model = dataclasses.replace(loaded.model, pooler=bool(pooler) and name in family.pooled)
    rules = mapping.active(family.rules_of(model, name), kept)
    tensors = mapping.write(kept, rules, model.layers, family.skip)
    config = {"architectures": [name], "model_type": family.model_type, "dtype": "float32"}
    config |= family.to_hf(model) | _labels(loaded, family) | _special_ids(loaded.tokenizer)
    values = {"config.json": config, "tokenizer_config.json": _tokenizer_config(loaded)}
    if recipe := recipe_of(loaded):
        values |= files(recipe, loaded.model.width, _max_length(loaded))
    texts = {file: json.dumps(value, indent=2) + "\n" for file, value in values.items()}
    texts["tokenizer.json"] = _tokenizer_json(loaded)
    texts["README.md"] = model_card(loaded, name, output, path)

    with appearing(folder) as part:
        for file, text in texts.items():
            (part / file).parent.mkdir(exist_ok=True)
            (part / file).write_text(text, encoding="utf-8")
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        # safetensors makes the file readable only by its owner; the others follow the umask.
        (part / "model.safetensors").chmod((part / "config.json").stat().st_mode)
    return Exported(name, left_out)


def _max_length(loaded: Loaded) -> int:
    """Tokens of the longest text, as in training, or as imported."""
    if "architecture" not in loaded.info.meta:
        return loaded.config.data.length
    longest = loaded.model.max_positions
    return min(longest, loaded.info.meta.get("max_length") or longest)


def _merged(loaded: Loaded) -> Loaded:
    """The same model with its adapters merged into the kernels."""
    model = dataclasses.replace(loaded.model, lora_rank=0, lora_alpha=ModelConfig.lora_alpha,
                                lora=ModelConfig.lora)  # fmt: skip
    return dataclasses.replace(loaded, model=model, params=lora.merged(loaded.params, loaded.model))


def find_class(loaded: Loaded) -> tuple[Family, str]:
    """Returns the family and class for this model. Raises UserError with what does not fit."""
    fitting, differences = [], {}
    for family in FAMILIES.values():
        differ = _differences(loaded.model, family)
        if family.pad not in (None, loaded.tokenizer.pad):
            differ.append(f"padding id {loaded.tokenizer.pad} (there {family.pad})")
        differences[family.model_type] = differ
        if not differ:
            fitting.append(family)
    if not fitting:
        nearest = min(differences, key=lambda name: len(differences[name]))
        raise UserError(
            f"no public architecture has this shape; nearest: {nearest}, except "
            f"{'; '.join(differences[nearest])}"
        )
    if any(o.pattern == "prefix" for o in loaded.objectives):
        raise UserError(
            "no public architecture reads a prompt in both directions and continues it causally "
            "(config.task.prefix, or a prefix LM)"
        )
    heads = [o.head_name for o in loaded.objectives]
    pairs = _pairs(loaded)
    for family in fitting:
        # The head for sentence pairs is left out if no class has it beside the others.
        name = family.class_with(heads) or family.class_with([h for h in heads if h not in pairs])
        if name is not None:
            _check_pooling(loaded, family, name)
            return family, name
    raise UserError(
        f"{fitting[0].model_type} has no class with the heads {', '.join(heads)}; it has "
        f"{', '.join(fitting[0].classes)}"
    )


def _differences(model: ModelConfig, family: Family) -> list[str]:
    """The keys in which a conversion to this family and back changes the shape."""
    try:
        hf = family.to_hf(model)
        converted = family.to_model(hf)
    except (UserError, KeyError) as error:
        return [str(error)]
    unread = {"pooler"}  # keys that make no difference here
    unread |= set() if model.pooler else {"pooler_activation"}
    unread |= set() if converted.window else {"global_every", "local_rope_base"}
    unread |= set() if "rope" in (converted.positions, model.positions) else {"rope_base"}
    unread |= {"kv_heads"} if converted.key_heads == model.key_heads else set()
    return [
        f"{key} {getattr(model, key)!r} (there {getattr(converted, key)!r})"
        for key in SHAPE_KEYS
        if key not in unread and getattr(model, key) != getattr(converted, key)
    ]


def _check_pooling(loaded: Loaded, family: Family, name: str) -> None:
    task = loaded.config.task
    if not hasattr(task, "pooling"):
        return
    pooling = pooled.chosen(task.pooling, loaded.model)
    if pooling not in family.poolings:
        raise UserError(
            f"{name} has no pooling {pooling!r}; it has {', '.join(map(repr, family.poolings))} "
            "(config.task.pooling)"
        )


def _pairs(loaded: Loaded) -> set[str]:
    """The heads that classify sentence pairs."""
    return {o.name for o in loaded.objectives if isinstance(o, SentencePairs)}


PROBLEMS = {"regression": "regression", "multi_label": "multi_label_classification"}


def _labels(loaded: Loaded, family: Family) -> dict[str, Any]:
    """The keys of config.json about labels."""
    task = loaded.config.task
    if task is None:
        return {}
    keys: dict[str, Any] = {}
    labels = ("LABEL_0",) if loaded.task.name == "regression" else getattr(task, "labels", ())
    if labels:
        keys["id2label"] = {str(i): label for i, label in enumerate(labels)}
        keys["label2id"] = {label: i for i, label in enumerate(labels)}
    if loaded.task.name in PROBLEMS:
        keys["problem_type"] = PROBLEMS[loaded.task.name]
    if family.model_type == "modernbert" and hasattr(task, "pooling"):
        pooling = pooled.chosen(task.pooling, loaded.model)
        keys["classifier_pooling"] = family.poolings[pooling]
    return keys


def _roles(tokenizer: Tokenizer) -> dict[str, int]:
    """Role -> token id: the roles that the tokenizer declares, or else those it has by name; and
    always padding, by which a classifier on the last token finds where a text ends."""
    roles = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
    by_name = {role: getattr(tokenizer, role) for role in roles}
    ids = (tokenizer.declared or by_name) | {"pad": tokenizer.pad}
    return {role: ids[role] for role in roles if ids.get(role) is not None}


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The token ids that the library reads from config.json."""
    roles = _roles(tokenizer)
    # The library's defaults for these are ids of its own vocabularies.
    for role, stand_in in (("bos", "cls"), ("eos", "sep")):
        if role not in roles and stand_in in roles:
            roles[role] = roles[stand_in]
    return {f"{r}_token_id": roles[r] for r in ("pad", "bos", "eos", "cls", "sep") if r in roles}


def _tokenizer_config(loaded: Loaded) -> dict[str, Any]:
    tokenizer = loaded.tokenizer
    has_types = loaded.model.token_types > 1 and tokenizer.token_types
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _max_length(loaded),
        # GPT-2 would embed token types as words; other models reject them.
        "model_input_names": ["input_ids", *["token_type_ids"] * has_types, "attention_mask"],
        **{f"{role}_token": tokenizer.token(i) for role, i in _roles(tokenizer).items()},
        **({"chat_template": template} if (template := _chat_template(loaded)) else {}),
    }


def _chat_template(loaded: Loaded) -> Any:
    """The template of conversations: that of the training, or the imported one."""
    if loaded.task is not None and loaded.task.name == chat.NAME:
        return turns.template(loaded.tokenizer)
    return loaded.info.meta.get("chat_template")


def _tokenizer_json(loaded: Loaded) -> str:
    """Our tokenizer.json, with the special tokens that framed texts in training."""
    tokenizer = loaded.tokenizer
    text = tokenizer.library_json()
    frames = () if tokenizer.own_frame else _frames(loaded)
    if not frames:
        return text
    names = {number: tokenizer.token(number) for part in frames[1].ids for number in part}
    template = {
        "type": "TemplateProcessing",
        "single": frames[0].to_json(names),
        "pair": frames[1].to_json(names),
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]} for number, name in names.items()
        },
    }
    return json.dumps(json.loads(text) | {"post_processor": template}, ensure_ascii=False)


def _frames(loaded: Loaded) -> tuple[Frame, ...]:
    """The frames around one text and around two. A causal model's frame only has a beginning. A
    mixture of causal and other losses, or a tokenizer without cls, has no frames."""
    tokenizer, task = loaded.tokenizer, loaded.task
    causal = [objective.pattern != "full" for objective in loaded.objectives]
    if task.generates if task is not None else causal and all(causal):
        begin = tokenizer.begin("a text that is continued begins with it")
        return tuple(
            Frame((begin, *[()] * texts), ((0,) * len(begin), *[()] * texts), (0,) * texts)
            for texts in (1, 2)
        )
    if task is not None or (not any(causal) and tokenizer.cls is not None):
        return tokenizer.frame(1), tokenizer.frame(2)
    return ()
