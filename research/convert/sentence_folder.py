"""Reads and writes the recipe of vectors in a folder of the sentence-transformers library.

Format: modules.json names the steps, each with its own folder; versions 2 to 6 of the library
differ in a few names.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from research.convert.family import only
from research.errors import UserError
from research.evaluation.embedding import Recipe

POOLINGS = {"cls": "first", "mean": "mean", "lasttoken": "last"}  # theirs -> ours
FLAGS = {  # names of poolings until version 5, one of which is true
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
# Settings of a transformer that must have their default values.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "do_lower_case": (False,),
    "transformer_task": ("feature-extraction",),
    "modality_config": (TEXT, None),
    "module_output_name": ("token_embeddings", None),
    "processing_kwargs": ({}, None),
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
}
MOST = 10**6  # tokens; a higher "model_max_length" means no limit


def transformer(folder: Path) -> Path:
    """The folder with config.json, weights and tokenizer: `folder`, or that of its first step."""
    modules = read_json(folder / "modules.json", [])
    within = modules and _kind(modules[0]) == "Transformer"
    return folder / modules[0]["path"] if within else folder


def read(folder: Path) -> Recipe | None:
    """The folder's recipe of vectors; None if it has no modules.json.

    Raises UserError for an unsupported step or setting.
    """
    modules = read_json(folder / "modules.json", [])
    if not modules:
        return None
    pooling, normalize = "", False
    for number, module in enumerate(modules):
        name, path = _kind(module), module["path"]
        where = f"{folder / path / 'config.json'}"
        values = read_json(folder / path / "config.json", {}) if path else {}
        if name == "Transformer" and number == 0:
            continue
        if name == "Pooling" and not pooling:
            pooling = _pooling(values, where)
            include = values["include_prompt"] if "include_prompt" in values else True
        elif name == "Normalize" and pooling:
            only(values, "module_input_name", "sentence_embedding", where=where)
            only(values, "module_output_name", "sentence_embedding", None, where=where)
            normalize = True
        elif name != "Dropout":
            raise UserError(
                f"{folder / 'modules.json'}: the step {module['type']!r} in {path!r} is not "
                "supported; supported: Transformer, Pooling, Normalize, in this order. "
                "Without modules.json the encoder alone is imported"
            )
    if not pooling:
        raise UserError(f"{folder / 'modules.json'} has no Pooling")
    for file in transformer(folder).glob("sentence_*_config.json"):
        values = read_json(file, {})
        for key, allowed in SETTINGS.items():
            only(values, key, *allowed, where=str(file))
    where = folder / "config_sentence_transformers.json"
    values = {"model_type": "SentenceTransformer", "prompts": {}} | read_json(where, {})
    only(values, "model_type", "SentenceTransformer", where=str(where))
    only(values, "truncate_dim", None, where=str(where))
    prompts = {name: text for name, text in values["prompts"].items() if text}
    if prompts and not include:
        raise UserError(
            f"{folder}: include_prompt=false (of its Pooling) is not supported beside prompts"
        )
    default = values.get("default_prompt_name") or ""
    prompt, similarity = default if default in prompts else "", values.get("similarity_fn_name")
    return Recipe(pooling, normalize, prompts, prompt, similarity or "")


def max_length(folder: Path) -> int | None:
    """Tokens of the longest text that the folder's tokenizer allows; None: it does not say."""
    files = {"tokenizer_config.json": "model_max_length"}
    folder = transformer(folder)
    files |= {file.name: "max_seq_length" for file in folder.glob("sentence_*_config.json")}
    lengths = [read_json(folder / file, {}).get(key) for file, key in files.items()]
    right = [n for n in lengths if isinstance(n, int | float) and 0 < n <= MOST]
    return int(right[-1]) if right else None


def files(recipe: Recipe, width: int, length: int) -> dict[str, Any]:
    """Name -> content of the files with which the library reads a folder.

    Args:
        width: size of the vectors.
        length: tokens of the longest text.
    """
    steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
    steps += [("2_Normalize", "Normalize")] if recipe.normalize else []
    mode = next(theirs for theirs, ours in POOLINGS.items() if ours == recipe.pooling)
    contents = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(steps)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": width}
        | {flag: name == mode for flag, name in FLAGS.items()},
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": dict(recipe.prompts),
            "default_prompt_name": recipe.prompt or None,
            "similarity_fn_name": recipe.similarity or None,
        },
    }
    return contents | ({"2_Normalize/config.json": {}} if recipe.normalize else {})


def _kind(module: Mapping[str, Any]) -> str:
    """The class of a step, without the library's module path."""
    kind = str(module["type"])
    return kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind


def _pooling(values: Mapping[str, Any], where: str) -> str:
    mode = values.get("pooling_mode") or [name for key, name in FLAGS.items() if values.get(key)]
    modes = [mode] if isinstance(mode, str) else mode or ["mean"]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UserError(
            f"{where}: the pooling {' with '.join(modes)} is not supported; supported: one of "
            f"{', '.join(POOLINGS)}"
        )
    return POOLINGS[modes[0]]


def read_json(file: Path, missing: Any) -> Any:
    """Reads a file, whose content must have the type of `missing`, the value if it is missing."""
    if not file.is_file():
        return missing
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from error
    if not isinstance(content, type(missing)):
        raise UserError(f"{file}: expected {'a list' if missing == [] else 'an object of keys'}")
    return content
