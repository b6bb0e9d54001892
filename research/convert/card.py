"""The model card of an exported checkpoint."""

import json

from research.config import to_values
from research.evaluation import splits
from research.run.loaded import Loaded


def model_card(loaded: Loaded, architecture: str, name: str, path: str) -> str:
    """Returns the README.md: the model's class, training data, config and metrics.

    Args:
        architecture: the library's class.
        name: name of the model.
        path: its checkpoint, beside which `launch.py evaluate` writes its metrics.
    """
    config = loaded.config
    data = config.data
    named = {
        "corpus": ", ".join(source.name for source in data.corpus),
        "training": data.train.name if data.train else "",
        "validation": data.validation.name if data.validation else "",
        "test": data.test.name if data.test else "",
        "imported from": str(loaded.info.meta.get("source", "")),
        "started from": config.init_from,
    }
    what = config.task and to_values(config)["task"]["name"].replace("_", " ")
    what = what or " and ".join(o.name.replace("_", " ") for o in loaded.objectives)
    lines = [
        "---",
        "library_name: transformers",
        "---",
        "",
        f"# {name.rstrip('/').rsplit('/', 1)[-1]}",
        "",
        f"`{architecture}`, trained for {what or 'features'}, exported after step "
        f"{loaded.info.step:,}.",
        "",
        "```python",
        f"from transformers import AutoTokenizer, {architecture}",
        "",
        f'model = {architecture}.from_pretrained(".")  # this folder',
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        "```",
        "",
        "## Data",
        "",
        *[f"- {key}: `{value}`" for key, value in named.items() if value],
        "",
        "## Metrics",
        "",
        *_metrics(loaded, path),
        "",
        "## Config",
        "",
        "```json",
        json.dumps(to_values(config), indent=1),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _metrics(loaded: Loaded, path: str) -> list[str]:
    measured = {"validation, in training": loaded.info.meta.get("metrics") or {}}
    for record in splits.records(path, loaded.info.step):
        measured[f"{record['split']}, {record['examples']:,} examples"] = record["metrics"]
    rows = [
        f"| {where} | {key.replace('_', ' ')} | {value:.4f} |"
        for where, metrics in measured.items()
        for key, value in sorted(metrics.items())
    ]
    if not rows:
        return ["None was measured by this code base."]
    return ["| split | metric | value |", "| --- | --- | --- |", *rows]
