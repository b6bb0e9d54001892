"""`launch.py embed`."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from research.commands import standard_input
from research.data import files, formats, jsonl, kinds
from research.data.kinds import Example
from research.data.left_out import LeftOut
from research.data.row import Row
from research.errors import UserError
from research.evaluation import embedding, predictor, splits
from research.evaluation.embedding import Recipe

FREE = ("data.length",)  # keys of the checkpoint's config that may be overridden


def run(
    checkpoint: str,
    overrides: dict[str, str],
    input: str,
    output: str,
    pooling: str | None = None,
    normalize: bool | None = None,
    prompt: str | None = None,
    fields: Mapping[str, str] | None = None,
    format: str = "",
) -> int:
    """Writes a vector for each text of a file, as .npz (ids, vectors) or JSON Lines.

    Args:
        pooling, normalize, prompt: None takes the checkpoint's own setting.
        fields: our names -> the file's columns.
    """
    if not output.endswith((".npz", ".jsonl")):
        raise UserError(f"--output={output} must end in .npz or .jsonl")
    jsonl.check_writable(output)
    formats.check(format)
    if input == standard_input.SIGN:
        rows = list(standard_input.rows())
    else:
        rows = list(files.rows(files.find(input, format), format=format, document="line"))
    loaded = splits.load(checkpoint, overrides, FREE)
    columns, left_out = predictor.columns(loaded, fields or {}, embedding.KIND), LeftOut()

    def read(row: Row) -> Example:
        return kinds.example(row, embedding.KIND, columns, labelled=False)

    read_rows = (left_out.read(row, read) for row in rows)
    examples = [example for example in read_rows if example is not None]
    print("".join(f"{line}\n" for line in left_out.lines()), end="", file=sys.stderr)
    if not examples:
        raise UserError(f"{input} is empty: it has no texts")
    flags = {"pooling": pooling, "normalize": normalize, "prompt": prompt}
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
        pairs = zip(ids, vectors, strict=True)
        jsonl.write(output, ({"id": i, "vector": v.tolist()} for i, v in pairs))
    settings = {
        "pooling": recipe.pooling,
        "normalize": str(recipe.normalize).lower(),
        "prompt": recipe.prompt or "none",
    }
    for name, value in settings.items() if stored else ():
        where = "by its flag" if name in flags else "from the imported folder"
        print(f"{name}: {value} ({where})")
    count, width = vectors.shape
    print(f"{count:,} vectors of {width} numbers written to {output}")
    return 0
