"""`launch.py embed`."""

import dataclasses
from pathlib import Path

import numpy as np

from research.data import files, jsonl
from research.errors import UserError
from research.evaluation import embedding, splits
from research.evaluation.embedding import Recipe

FREE = ("data.length",)  # of the checkpoint's config


def run(
    checkpoint: str,
    overrides: dict[str, str],
    input: str,
    output: str,
    pooling: str | None = None,
    normalize: str | None = None,
    prompt: str | None = None,
) -> int:
    """Writes a vector for each text of a file: to a .npz (ids, vectors) or as JSON Lines.

    pooling, normalize, prompt: None stands for what the checkpoint asks for.
    """
    if not output.endswith((".npz", ".jsonl")):
        raise UserError(f"--output={output} must end in .npz or .jsonl")
    jsonl.check_writable(output)
    examples = [_example(row) for row in files.rows(files.find(input), text_lines=True)]
    if not examples:
        raise UserError(f"{input} is empty: there is not one text in it")
    loaded = splits.load(checkpoint, overrides, FREE)
    switch = None if normalize is None else bool(normalize)
    flags = {"pooling": pooling, "normalize": switch, "prompt": prompt}
    flags = {name: value for name, value in flags.items() if value is not None}
    stored = embedding.recipe_of(loaded)
    recipe = dataclasses.replace(stored or Recipe(), **flags)
    vectors = embedding.embed(loaded, examples, recipe, quiet=False)
    ids = [example["id"] for example in examples]
    if output.endswith(".npz"):
        part = Path(f"{output}.part")
        with open(part, "wb") as file:
            np.savez(file, ids=np.array(ids), vectors=vectors)
        part.replace(output)
    else:
        rows = ({"id": i, "vector": v.tolist()} for i, v in zip(ids, vectors, strict=True))
        jsonl.write(output, rows)
    told = {
        "pooling": recipe.pooling,
        "normalize": str(recipe.normalize).lower(),
        "prompt": recipe.prompt or "none",
    }
    for name, value in told.items() if stored else ():
        where = "by its flag" if name in flags else "as the folder asks that it was imported from"
        print(f"{name}: {value} ({where})")
    count, width = vectors.shape
    print(f"{count:,} vectors of {width} numbers written to {output}")
    return 0


def _example(row: files.Row) -> dict:
    names = ("text",) if "text" in row.fields else ("text_a", "text_b")
    for name in names:
        if not isinstance(row.fields.get(name), str):
            raise UserError(f"{row.where}: expected a text in 'text', or in 'text_a' and 'text_b'")
    return {"id": str(row.fields.get("id", row.fallback_id))} | {n: row.fields[n] for n in names}
