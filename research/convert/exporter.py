"""One of our checkpoints into a folder that the Hugging Face library loads."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from research.convert import mapping
from research.convert.card import model_card
from research.convert.families import FAMILIES
from research.convert.family import Family
from research.convert.folder import require_free
from research.convert.sentence_folder import files
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
    """What was written: the library's class, and the parameters that it has no place for."""

    architecture: str
    left_out: tuple[str, ...]


def export(path: str, output: str) -> Exported:
    """Writes config.json, model.safetensors, the tokenizer's files and a model card to OUTPUT.

    Raises UserError where the library has no class for the shape or the heads, or OUTPUT holds
    something already; then nothing is written.
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
    rules = mapping.active(family.rules(model, name), kept)
    tensors = mapping.write(
        kept, rules, model.layers, lambda path, layer: family.skip(model, path, layer)
    )
    config = {"architectures": [name], "model_type": family.model_type, "dtype": "float32"}
    config |= family.to_hf(model) | _labels(loaded, family) | _special_ids(loaded.tokenizer)
    card = model_card(loaded, name, output, path)

    part = folder.with_name(f"{folder.name}.part")
    try:
        _write(part, loaded, config, tensors, card)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Exported(name, left_out)


def _write(
    part: Path, loaded: Loaded, config: dict[str, Any], tensors: dict[str, np.ndarray], card: str
) -> None:
    part.mkdir(parents=True, exist_ok=True)
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
    # The library makes it readable by its owner alone; the other files follow the umask.
    (part / "model.safetensors").chmod((part / "config.json").stat().st_mode)
    (part / "tokenizer.json").write_text(_tokenizer_json(loaded), encoding="utf-8")
    text = json.dumps(_tokenizer_config(loaded), indent=2)
    (part / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    (part / "README.md").write_text(card, encoding="utf-8")
    recipe = recipe_of(loaded)
    if recipe is not None:
        for name, content in files(recipe, loaded.model.width, _max_length(loaded)).items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _max_length(loaded: Loaded) -> int:
    """Tokens of the longest text: as the model was trained, or as it was imported."""
    if "architecture" not in loaded.info.meta:
        return loaded.config.data.length
    longest = loaded.model.max_positions
    return min(longest, loaded.info.meta.get("max_length") or longest)


def _merged(loaded: Loaded) -> Loaded:
    """The same model with its adapters in the kernels."""
    model = dataclasses.replace(loaded.model, lora_rank=0, lora_alpha=ModelConfig.lora_alpha,
                                lora=ModelConfig.lora)  # fmt: skip
    return dataclasses.replace(loaded, model=model, params=lora.merged(loaded.params, loaded.model))


def find_class(loaded: Loaded) -> tuple[Family, str]:
    """The family and class that hold this model. Raises UserError, saying what does not fit."""
    fitting, differences = [], {}
    for family in FAMILIES.values():
        differ = _differences(loaded.model, family)
        if family.pad not in (None, loaded.tokenizer.pad):
            differ.append(f"padding with the id {loaded.tokenizer.pad} (there {family.pad})")
        differences[family.model_type] = differ
        if not differ:
            fitting.append(family)
    if not fitting:
        nearest = min(differences, key=lambda name: len(differences[name]))
        raise UserError(
            f"no public architecture has this shape; nearest: {nearest}, but for "
            f"{'; '.join(differences[nearest])}"
        )
    if any(o.pattern == "prefix" for o in loaded.objectives):
        raise UserError(
            "no public architecture reads a prompt in both directions and writes on from left to "
            "right (config.task.prefix, or a prefix LM)"
        )
    heads = [o.head_name for o in loaded.objectives]
    pairs = _pairs(loaded)
    for family in fitting:
        # The head that tells pairs of sentences is left out where no class has both.
        name = family.class_with(heads) or family.class_with([h for h in heads if h not in pairs])
        if name is not None:
            _check_pooling(loaded, family, name)
            return family, name
    raise UserError(
        f"{fitting[0].model_type} has no class with the heads {', '.join(heads)}; it has "
        f"{', '.join(fitting[0].classes)}"
    )


def _differences(model: ModelConfig, family: Family) -> list[str]:
    """What this family would make of the shape, where that is something else."""
    try:
        hf = family.to_hf(model)
        theirs = family.to_model(hf)
    except (UserError, KeyError) as error:
        return [str(error)]
    theirs = dataclasses.replace(theirs, pooler=model.pooler)
    if not model.pooler:
        theirs = dataclasses.replace(theirs, pooler_activation=model.pooler_activation)
    if not theirs.window:
        theirs = dataclasses.replace(
            theirs, global_every=model.global_every, local_rope_base=model.local_rope_base
        )
    if theirs.positions != "rope" and model.positions != "rope":
        theirs = dataclasses.replace(theirs, rope_base=model.rope_base)
    if theirs.key_heads == model.key_heads:
        theirs = dataclasses.replace(theirs, kv_heads=model.kv_heads)
    return [
        f"{key} {getattr(model, key)!r} (there {getattr(theirs, key)!r})"
        for key in SHAPE_KEYS
        if getattr(model, key) != getattr(theirs, key)
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
    """The heads that tell pairs of sentences."""
    return {o.name for o in loaded.objectives if isinstance(o, SentencePairs)}


PROBLEMS = {"regression": "regression", "multi_label": "multi_label_classification"}


def _labels(loaded: Loaded, family: Family) -> dict[str, Any]:
    """What config.json says of the classes."""
    task = loaded.config.task
    if task is None:
        return {}
    found: dict[str, Any] = {}
    labels = ("LABEL_0",) if loaded.task.name == "regression" else getattr(task, "labels", ())
    if labels:
        found["id2label"] = {str(i): label for i, label in enumerate(labels)}
        found["label2id"] = {label: i for i, label in enumerate(labels)}
    if loaded.task.name in PROBLEMS:
        found["problem_type"] = PROBLEMS[loaded.task.name]
    if family.model_type == "modernbert" and hasattr(task, "pooling"):
        pooling = pooled.chosen(task.pooling, loaded.model)
        found["classifier_pooling"] = family.poolings[pooling]
    return found


def _roles(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of the roles that the tokenizer declares, or else of those that it has by name; and
    always of padding, by which a classifier on the last token knows where a text ends."""
    roles = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
    by_name = {role: getattr(tokenizer, role) for role in roles}
    ids = (tokenizer.declared or by_name) | {"pad": tokenizer.pad}
    return {role: ids[role] for role in roles if ids.get(role) is not None}


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids that the library reads from config.json; a classifier finds the last token by pad."""
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
        # GPT-2 takes token types for words, other models do not take them at all.
        "model_input_names": ["input_ids", *["token_type_ids"] * has_types, "attention_mask"],
        **{f"{role}_token": tokenizer.token(i) for role, i in _roles(tokenizer).items()},
        **({"chat_template": template} if (template := _chat_template(loaded)) else {}),
    }


def _chat_template(loaded: Loaded) -> Any:
    """How conversations are written: as it was trained on them, or as it was imported."""
    if loaded.task is not None and loaded.task.name == chat.NAME:
        return turns.template(loaded.tokenizer)
    return loaded.info.meta.get("chat_template")


def _tokenizer_json(loaded: Loaded) -> str:
    """Our tokenizer.json, with the special tokens that the model was trained with around a text."""
    tokenizer = loaded.tokenizer
    text = tokenizer.library_json()
    if tokenizer.own_frame or not _framed(loaded):
        return text
    single, pair = tokenizer.frame(1), tokenizer.frame(2)
    names = {number: tokenizer.token(number) for part in pair.ids for number in part}
    template = {
        "type": "TemplateProcessing",
        "single": single.to_json(names),
        "pair": pair.to_json(names),
        "special_tokens": {
            name: {"id": name, "ids": [number], "tokens": [name]} for number, name in names.items()
        },
    }
    return json.dumps(json.loads(text) | {"post_processor": template}, ensure_ascii=False)


def _framed(loaded: Loaded) -> bool:
    """Whether its texts stood between special tokens, as a prompt that is continued does not."""
    if loaded.task is not None:
        return not loaded.task.prompt
    causal = any(objective.pattern != "full" for objective in loaded.objectives)
    return not causal and loaded.tokenizer.cls is not None
